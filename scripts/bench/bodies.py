"""Reads the yardstick's body files with decoders of their own, so that what was sent is known
without asking the server that is measured.

A file is the line "YARD1", a length and that many bytes of header lines, then per body its length,
its number of items and its bytes, all numbers 32 bit, little endian. Message layouts: remote write
1.0 and 2.0 (prometheus/prometheus prompb), Loki's push (grafana/loki pkg/push), OTLP's
ExportTraceServiceRequest.
"""

import random
import struct

import cramjam


def bodies(path):
    with open(path, "rb") as file:
        assert file.read(6) == b"YARD1\n", path
        (length,) = struct.unpack("<I", file.read(4))
        file.seek(length, 1)
        while head := file.read(8):
            length, _items = struct.unpack("<II", head)
            yield file.read(length)


def drawn(path, n, signal, seed=1):
    """About `n` items, drawn at random: a few of each of up to 100 bodies."""
    every = list(range(sum(1 for _ in bodies(path))))
    rng = random.Random(seed)
    chosen = set(rng.sample(every, min(100, len(every))))
    per_body = -(-n // len(chosen))
    out = []
    for i, body in enumerate(bodies(path)):
        if i in chosen:
            items = list(DECODERS[signal](body))
            out += rng.sample(items, min(per_body, len(items)))
    return out[:n]


def varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at


def fields(data):
    """(number, value) of each field: int for varint and fixed, bytes for what has a length."""
    at = 0
    while at < len(data):
        key, at = varint(data, at)
        kind = key & 7
        if kind == 0:
            value, at = varint(data, at)
        elif kind == 1:
            (value,) = struct.unpack_from("<Q", data, at)
            at += 8
        elif kind == 2:
            length, at = varint(data, at)
            value = data[at:at + length]
            at += length
        elif kind == 5:
            (value,) = struct.unpack_from("<I", data, at)
            at += 4
        else:
            raise ValueError(f"wire type {kind}")
        yield key >> 3, value


def every(data, number):
    return [value for field, value in fields(data) if field == number]


def packed(data):
    at = 0
    while at < len(data):
        value, at = varint(data, at)
        yield value


def double(bits):
    return struct.unpack("<d", struct.pack("<Q", bits))[0]


def samples(body):
    """(labels, time in ms, value) of remote write, 1.0 or 2.0."""
    raw = bytes(cramjam.snappy.decompress_raw(body))
    symbols = [s.decode() for s in every(raw, 4)]
    for series in every(raw, 5 if symbols else 1):
        labels, points = {}, []
        for field, value in fields(series):
            if symbols and field == 1:
                refs = list(packed(value))
                labels = {symbols[a]: symbols[b] for a, b in zip(refs[::2], refs[1::2])}
            elif not symbols and field == 1:
                pair = dict(fields(value))
                labels[pair[1].decode()] = pair[2].decode()
            elif field == 2:
                # Proto 3 leaves out what is zero.
                point = dict(fields(value))
                points.append((point.get(2, 0), double(point.get(1, 0))))
        yield from ((labels, time, value) for time, value in points)


def lines(body):
    """(selector, time in ns, line) of Loki's push."""
    for stream in every(bytes(cramjam.snappy.decompress_raw(body)), 1):
        (labels,) = every(stream, 1)
        for entry in every(stream, 2):
            parts = dict(fields(entry))
            time = dict(fields(parts[1]))
            yield labels.decode(), time.get(1, 0) * 10**9 + time.get(2, 0), parts.get(2, b"").decode()


def spans(body):
    """(trace id, span id, name, start, end, attributes in text) of OTLP."""
    for resource in every(body, 1):
        for scope in every(resource, 2):
            for span in every(scope, 2):
                parts = {number: value for number, value in fields(span) if number != 9}
                attributes = {}
                for pair in every(span, 9):
                    key, value = (dict(fields(pair))[n] for n in (1, 2))
                    (kind, content), = fields(value)
                    attributes[key.decode()] = content.decode() if kind == 1 else str(content)
                yield parts[1].hex(), parts[2].hex(), parts[5].decode(), parts[7], parts[8], attributes


DECODERS = {"metrics": samples, "logs": lines, "traces": spans}
