"""python -m benchmarks.gpu: speed, memory and waits on a GPU. __main__.py says how to use it."""
