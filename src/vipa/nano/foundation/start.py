"""What the foundation's language training starts from, so that minutes suffice to connect words with pictures.

Measured: from random numbers, finding a named thing in the image was still at chance after 160,000 questions. With
this start and the pointing losses of `conversations`, it shows after 25,000.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import InternVLVisionModel

from vipa.models import VipaForConditionalGeneration
from vipa.models.motion_tokens import add_motion_tokens
from vipa.models.pixels import semantic_pixels
from vipa.nano.foundation.picture_set import PAINTS, THINGS, Pictures
from vipa.nano.sizes import Vocabulary, nano_vlm_config

ALIGNMENT_PICTURES = 3_000


def new_language_model(
    tokenizer: Vocabulary, vision: InternVLVisionModel, data: Pictures, seed: int, steps: int = 300
) -> VipaForConditionalGeneration:
    """nano without spatial encoder: the pretrained image encoder, a projector aligned in so many steps, a matching
    language model."""
    torch.manual_seed(seed)
    model = VipaForConditionalGeneration(nano_vlm_config(tokenizer))
    model.model.vision_tower.load_state_dict(vision.state_dict())
    add_motion_tokens(model, tokenizer)
    match_queries_to_keys(model)
    align_projector(model, tokenizer, data, steps)
    return model.eval()


@torch.no_grad()
def match_queries_to_keys(
    model: VipaForConditionalGeneration, copied: float = 0.3, sharpness: float = 1.7
) -> None:
    """Half of the attention heads begin by looking for tokens like their own and copying them (mimetic
    initialisation, Trockman and Kolter 2023). copied: how much of a token. sharpness: of queries' and keys' norms.
    """
    for layer in model.model.language_model.layers:
        attention = layer.self_attn
        dim, width = attention.head_dim, attention.q_proj.in_features
        for projection in (attention.q_proj, attention.k_proj, attention.v_proj):
            nn.init.normal_(projection.weight, std=width**-0.5)
        keys, values = (p.weight.unflatten(0, (-1, dim)) for p in (attention.k_proj, attention.v_proj))
        queries = attention.q_proj.weight.unflatten(0, (-1, dim))
        outputs = attention.o_proj.weight.unflatten(1, (-1, dim))
        queries[:: attention.num_key_value_groups] = keys
        outputs[:, :: attention.num_key_value_groups] = copied * values.permute(2, 0, 1)
        attention.q_norm.weight.fill_(sharpness)
        attention.k_norm.weight.fill_(sharpness)


def align_projector(
    model: VipaForConditionalGeneration, tokenizer: Vocabulary, data: Pictures, steps: int, batch: int = 64
) -> None:
    """Every image token near the words of what its patch shows (the embeddings stay), its place readable."""
    projector = model.model.multi_modal_projector
    embeddings = model.get_input_embeddings()
    assert isinstance(embeddings, nn.Embedding)
    words = embeddings.weight.detach()

    def vectors(names: tuple[str, ...]) -> Tensor:
        return torch.stack([words[tokenizer(f" {name}")["input_ids"]].sum(0) for name in names])

    classes = {"thing": vectors(THINGS), "paint": vectors(PAINTS)}
    size = 1.5 * float(words.norm(dim=1).median())
    nothing = nn.Parameter(0.02 * torch.randn(len(classes), 1, words.shape[1]))
    sharpness = nn.Parameter(torch.tensor(10.0))
    place = nn.Linear(words.shape[1], 2)
    optimizer = torch.optim.AdamW([*projector.parameters(), *place.parameters(), nothing, sharpness], lr=2e-3)
    rows = torch.linspace(0, len(data) - 1, min(len(data), ALIGNMENT_PICTURES)).long()
    with torch.no_grad():
        semantic = torch.cat(
            [model.encode_images(semantic_pixels(torch.from_numpy(data.rgb[r])))[0] for r in rows.split(64)]
        )
    for _ in range(steps):
        some = torch.randint(len(rows), (batch,))
        tokens = model.model.project(semantic[some], None)
        truth = {name: torch.from_numpy(getattr(data, name)[rows[some]]) for name in ("thing", "paint", "box")}
        shown = truth["thing"] > 0
        centres = truth["box"][..., :2].float()
        loss = 5 * (place(tokens) - centres)[shown].abs().mean()
        loss = loss + (tokens.norm(dim=-1) / size - 1).square().mean()
        for none, (name, known) in zip(nothing, classes.items()):
            similar = F.normalize(tokens, dim=-1) @ F.normalize(torch.cat([none, known]), dim=-1).T
            loss = loss + F.cross_entropy((sharpness * similar).flatten(0, 1), truth[name].long().flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
