from vipa.cli import main

main()
