"""A policy behind a port.

worker.py         one thread that owns the policy and batches across clients
requests.py       what a client sends, checked against the contract: keys, shapes, types, finite numbers
arrays.py         numpy arrays in msgpack, without pickle
server.py         the websocket server: limits, token, /healthz, /metrics, draining
openpi.py         the protocol of openpi-client
vla_eval_server.py  the protocol of vla-eval, through its own base class
metrics.py        counters and histograms in Prometheus' text form
"""
