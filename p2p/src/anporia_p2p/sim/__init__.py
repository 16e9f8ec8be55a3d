"""The real cores in virtual time, with links, adversaries and an observer who measures what they give away."""
