"""Entry point of ``quantgap``, which is also ``python -m empirics``."""


def main() -> None:
    """Run the command line, or say what is missing where `theory` alone is installed."""
    try:
        from empirics.cli import app
    except ModuleNotFoundError as missing:
        raise SystemExit(f"quantgap: {missing.name} is missing; pip install 'quantgap[empirics]'") from missing
    app(prog_name="quantgap")


if __name__ == "__main__":
    main()
