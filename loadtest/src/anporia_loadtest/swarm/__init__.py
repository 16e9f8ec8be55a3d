"""The users that locust runs. Nothing outside this folder imports locust, for it patches what it meets."""
