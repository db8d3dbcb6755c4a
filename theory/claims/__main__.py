"""Print the registry as the README shows it."""

from theory.claims import markdown

if __name__ == "__main__":
    print(markdown())
