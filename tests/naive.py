"""The mechanisms once more, in NumPy, float64 and plain loops: slow, obvious, and the yardstick.

Nothing here has a batch axis; `rows` puts one around anything.
"""

import math

import numpy as np


def rows(function, *arrays):
    """`function` of each row of the arrays, stacked; `None` stays `None`."""
    arrays = [x if x is None else np.asarray(x) for x in arrays]
    count = len(arrays[0])
    return np.stack([function(*(x if x is None else x[b] for x in arrays)) for b in range(count)])


def dot(queries, keys):
    """[T, K] and [S, K] to [T, S]; Luong et al. 2015, sec. 3.1."""
    queries, keys = (np.asarray(x, np.float64) for x in (queries, keys))
    logits = np.zeros((len(queries), len(keys)))
    for t, query in enumerate(queries):
        for s, key in enumerate(keys):
            logits[t, s] = sum(q * k for q, k in zip(query, key, strict=True))
    return logits


def scaled_dot(queries, keys):
    """Vaswani et al. 2017, eq. 1."""
    return dot(queries, keys) / math.sqrt(np.shape(queries)[1])


def general(queries, keys, matrix):
    """[T, K], [S, J] and [K, J] to [T, S]; Luong et al. 2015, sec. 3.1."""
    queries, keys, matrix = (np.asarray(x, np.float64) for x in (queries, keys, matrix))
    logits = np.zeros((len(queries), len(keys)))
    for t, query in enumerate(queries):
        for s, key in enumerate(keys):
            for i, q in enumerate(query):
                for j, k in enumerate(key):
                    logits[t, s] += q * matrix[i, j] * k
    return logits


def content(queries, keys, sharpness):
    """Graves et al. 2014, eq. 5 and 6; what has no direction is like nothing."""
    queries, keys = (np.asarray(x, np.float64) for x in (queries, keys))
    sharpness = np.broadcast_to(np.asarray(sharpness, np.float64), len(queries))
    logits = dot(queries, keys)
    for t, query in enumerate(queries):
        for s, key in enumerate(keys):
            norms = math.sqrt(sum(query**2)) * math.sqrt(sum(key**2))
            logits[t, s] *= sharpness[t] / norms if norms else 0.0
    return logits


def additive(queries, keys, params):
    """Bahdanau et al. 2015, appendix A.1.2: v · tanh(q + k)."""
    queries, keys, params = (np.asarray(x, np.float64) for x in (queries, keys, params))
    logits = np.zeros((len(queries), len(keys)))
    for t, query in enumerate(queries):
        for s, key in enumerate(keys):
            logits[t, s] = sum(v * math.tanh(x) for v, x in zip(params, query + key, strict=True))
    return logits


def soft(logits, mask=None):
    """[T, S] to [T, S]; a row without anything to look at is zero."""
    logits = np.asarray(logits, np.float64)
    weights = np.zeros(logits.shape)
    for t, row in enumerate(logits):
        seen = [s for s in range(len(row)) if mask is None or mask[t, s]]
        for s in seen:
            weights[t, s] = math.exp(row[s] - max(row[seen]))
        if seen:
            weights[t] /= sum(weights[t])
    return weights


def local(logits, centres, length, half_width, gaussian):
    """Weights [T, S] of windows in the first `length` positions; Luong et al. 2015, sec. 3.2."""
    weights = np.zeros(np.shape(logits))
    for t, centre in enumerate(np.asarray(centres, np.float64)):
        near = [s for s in range(length) if abs(s - round(centre)) <= half_width]
        weights[t, near] = soft(np.asarray(logits)[None, t, near])[0]
        for s in near if gaussian else []:
            weights[t, s] *= math.exp(-((s - centre) ** 2) / (2 * (half_width / 2) ** 2))
    return weights


def read(weights, values):
    """[T, S] and [S, V] to [T, V]."""
    weights, values = (np.asarray(x, np.float64) for x in (weights, values))
    contexts = np.zeros((len(weights), values.shape[1]))
    for t, row in enumerate(weights):
        for weight, value in zip(row, values, strict=True):
            contexts[t] += weight * value
    return contexts


def attend(queries, keys, values, mask=None):
    return read(soft(scaled_dot(queries, keys), mask), values)


def gradient(function, x, step=1e-5):
    """Central differences of a scalar function at `x`, in float64."""
    x = np.array(x, np.float64)
    slope = np.zeros(x.shape)
    for i in np.ndindex(x.shape):
        here = x[i]
        x[i] = here + step
        above = function(x)
        x[i] = here - step
        below = function(x)
        x[i] = here
        slope[i] = (above - below) / (2 * step)
    return slope


def cross_entropy(states, table, labels, valid, smoothing):
    """[N, D], [V, D], [N] and [N] to nats, summed over the valid."""
    loss = 0.0
    for state, label, counts in zip(states, labels, valid, strict=True):
        if counts:
            logits = [float(np.dot(state, row)) for row in table]
            log_total = math.log(sum(math.exp(x) for x in logits))
            for v, x in enumerate(logits):
                target = smoothing / len(table) + (1 - smoothing) * (v == label)
                loss -= target * (x - log_total)
    return loss


def greedy(log_probs, limit, *, eos):
    """The likeliest token again and again; at the limit `eos`. `log_probs` is of a prefix."""
    sequence = ()
    while len(sequence) < limit - 1:
        sequence += (int(np.argmax(log_probs(sequence))),)
        if sequence[-1] == eos:
            return sequence
    return (*sequence, eos)


def beam_search(log_probs, limit, *, width, alpha, eos):
    """Hypotheses of one sentence as (score, sequence), best first; `log_probs` is of a prefix."""
    alive, finished = [(0.0, ())], []
    for position in range(limit):
        extended = [
            (total + x, (*sequence, token))
            for total, sequence in alive
            for token, x in enumerate(log_probs(sequence))
            if position < limit - 1 or token == eos
        ]
        best = sorted(extended, reverse=True)[: 2 * width]
        finished += [(penalised(x, len(y), alpha), y) for x, y in best[:width] if y[-1] == eos]
        alive = [(x, y) for x, y in best if y[-1] != eos][:width]
        if len(finished) >= width:
            break
    return sorted(finished, reverse=True)[:width]


def penalised(log_prob, size, alpha):
    """Wu et al. 2016, eq. 14."""
    return log_prob / ((5 + size) / 6) ** alpha


def edit_distance(a, b):
    """Fewest insertions, deletions and substitutions that make `b` of `a`."""
    if not a or not b:
        return len(a) + len(b)
    return min(
        edit_distance(a[1:], b) + 1,
        edit_distance(a, b[1:]) + 1,
        edit_distance(a[1:], b[1:]) + (a[0] != b[0]),
    )


def address(memory, previous, key, strength, gate, shift, sharpness):
    """One head's new weights over [N, M]; Graves et al. 2014, eq. 5 to 9."""
    count, radius = len(memory), len(shift) // 2
    exponentials = np.exp(content([key], memory, strength)[0])
    found = exponentials / sum(exponentials)
    gated = [gate * found[i] + (1 - gate) * previous[i] for i in range(count)]
    moved = np.zeros(count)
    for i in range(count):
        for j in range(count):
            for n, s in enumerate(shift):
                if (j + n - radius) % count == i:
                    moved[i] += gated[j] * s
    powers = moved**sharpness
    return powers / sum(powers)


def write(memory, weights, erase, add):
    """[N, M], [H, N], [H, M] and [H, M] to [N, M]; Graves et al. 2014, eq. 3 and 4."""
    memory = np.array(memory, np.float64)
    for w, e in zip(weights, erase, strict=True):
        for i in range(len(memory)):
            memory[i] *= 1 - w[i] * np.asarray(e, np.float64)
    for w, a in zip(weights, add, strict=True):
        for i in range(len(memory)):
            memory[i] += w[i] * np.asarray(a, np.float64)
    return memory
