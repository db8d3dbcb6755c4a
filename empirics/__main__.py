"""``python -m empirics`` is ``quantgap``."""

from empirics.cli import main

main()
