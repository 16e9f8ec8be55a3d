"""`python -m anporia_relay`."""

from .cli import main

if __name__ == "__main__":
    main()
