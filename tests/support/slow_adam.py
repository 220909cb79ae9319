"""AdamW one number at a time, in float64, straight from the equations: a reference for the tests and for sanity."""

import math


def slow_adam(theta, grads, lr, beta1, beta2, eps, decay, correct):
    m = v = 0.0
    for t, g in enumerate(grads, start=1):
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g * g
        c = math.sqrt(1 - beta2**t) / (1 - beta1**t) if correct else 1.0
        theta -= lr * c * m / (math.sqrt(v) + eps)
        theta -= lr * decay * theta
    return theta
