"""Prints so many free ports of 127.0.0.1: none of those that the system gives to clients, who could take one before it is used."""
import random
import socket
import sys

held = []
while len(held) < int(sys.argv[1]):
    trial = socket.socket()
    try:
        trial.bind(("127.0.0.1", random.randrange(10000, 32000)))
        held.append(trial)
    except OSError:
        trial.close()
print(*[s.getsockname()[1] for s in held])
