# Trains low-rank pairs, or a whole model, with PyTorch alone: /usr/bin/python3 lora_reference.py REQUEST.json, and the answer is JSON on stdout.
# What training in the machine is held against: the llama family's forward pass over the dequantised weights of a GGUF file, gradients by
# PyTorch's own autograd, its AdamW and SGD, and the sequences, rates and first values that the request names. Written from the GGUF
# specification, llama2.c's model, Hu et al. 2021 (LoRA) and nothing of this project's.
#
# request: model, method lora|full, dtype f32|f64, targets [q k v o gate up down], rank, alpha, seed, optimizer adam|sgd, beta1, beta2,
#   epsilon, decay, clip, anchor, steps [{rate, sequences [[from, [id …]] …]} …], held [[from, [id …]] …], logits [[id …] …]
# answer: losses (mean nats a target of each step, before its update), norms (of the gradient, before clipping), held (before and after),
#   parameters, seconds (of a processor, of each step), logits (of each row of ids, at every position)
import json, math, struct, sys, time
import torch

TYPES = {0: ("f32", 4, 1), 1: ("f16", 2, 1), 2: ("q4_0", 18, 32), 8: ("q8_0", 34, 32)}
SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
MATRICES = {"q": "attn_q", "k": "attn_k", "v": "attn_v", "o": "attn_output", "gate": "ffn_gate", "up": "ffn_up", "down": "ffn_down"}


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, format):
        (value,) = struct.unpack_from("<" + format, self.data, self.at)
        self.at += struct.calcsize("<" + format)
        return value

    def text(self):
        n = self.take("Q")
        self.at += n
        return self.data[self.at - n : self.at].decode("utf-8", "replace")

    def value(self, kind):
        if kind == 8:
            return self.text()
        if kind == 9:
            of, n = self.take("I"), self.take("Q")
            return [self.value(of) for _ in range(n)]
        return self.take(SCALARS[kind])


def dequantised(kind, raw, count):
    """f64 values that are those of the f32 expansion: a block's scale is F16, its products with 8-bit integers are exact in f32."""
    bytes_ = torch.frombuffer(bytearray(raw), dtype=torch.uint8)
    if kind == "f32":
        return bytes_.view(torch.float32).double()
    if kind == "f16":
        return bytes_.view(torch.float16).double()
    blocks = bytes_.view(count // 32, -1)
    scales = blocks[:, :2].contiguous().view(torch.float16).double()
    if kind == "q8_0":
        return (scales * blocks[:, 2:].contiguous().view(torch.int8).double()).flatten()
    halves = blocks[:, 2:]  # q4_0: low nibbles are values 0 … 15 of a block, high ones 16 … 31
    return (scales * (torch.cat([halves & 15, halves >> 4], 1).double() - 8)).flatten()


def gguf(path):
    """Metadata, and tensors by name in file order, as f64[rows][columns]."""
    data = open(path, "rb").read()
    r = Reader(data)
    assert data[:4] == b"GGUF", "not a GGUF file"
    r.at = 8
    tensors, pairs = r.take("Q"), r.take("Q")
    meta = {}
    for _ in range(pairs):
        key = r.text()
        meta[key] = r.value(r.take("I"))
    entries = []
    for _ in range(tensors):
        name = r.text()
        shape = [r.take("Q") for _ in range(r.take("I"))]
        entries.append((name, shape, r.take("I"), r.take("Q")))
    alignment = meta.get("general.alignment", 32)
    base = (r.at + alignment - 1) // alignment * alignment
    weights = {}
    for name, shape, type_, offset in entries:
        kind, bytes_, block = TYPES[type_]
        count = math.prod(shape)
        raw = data[base + offset : base + offset + count // block * bytes_]
        weights[name] = dequantised(kind, raw, count).reshape(shape[::-1])
    return meta, weights


class Llama:
    def __init__(self, path, dtype):
        meta, weights = gguf(path)
        assert meta["general.architecture"] == "llama", "only the llama family"
        key = lambda name, other=None: meta.get("llama." + name, other)
        self.weights = {name: w.to(dtype) for name, w in weights.items()}
        self.layers, self.heads, width = key("block_count"), key("attention.head_count"), key("embedding_length")
        self.heads_kv = key("attention.head_count_kv", self.heads)
        self.head_dim = key("attention.key_length", width // self.heads)
        self.eps = key("attention.layer_norm_rms_epsilon")
        self.pairs = key("rope.dimension_count", self.head_dim) // 2
        self.base = key("rope.freq_base", 10000.0)
        self.dtype, self.deltas, self.times = dtype, {}, 0.0

    def mul(self, x, name):
        y = x @ self.weights[name + ".weight"].T
        if name + ".bias" in self.weights:
            y = y + self.weights[name + ".bias"]
        if name in self.deltas:
            a, b = self.deltas[name]
            y = y + self.times * ((x @ a.T) @ b.T)
        return y

    def norm(self, x, name):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps) * self.weights[name + ".weight"]

    def turn(self, x):
        """RoPE of x [position][head][value]: the values 2i and 2i + 1 are a pair."""
        n = x.shape[0]
        frequencies = self.base ** (-torch.arange(self.pairs, dtype=torch.float64) / self.pairs)
        angles = torch.outer(torch.arange(n, dtype=torch.float64), frequencies)
        cos, sin = angles.cos().to(self.dtype)[:, None], angles.sin().to(self.dtype)[:, None]
        even, odd = x[..., 0 : 2 * self.pairs : 2], x[..., 1 : 2 * self.pairs : 2]
        turned = torch.stack([even * cos - odd * sin, even * sin + odd * cos], -1).flatten(-2)
        return torch.cat([turned, x[..., 2 * self.pairs :]], -1)

    def attention(self, x, block):
        n, group = x.shape[0], self.heads // self.heads_kv
        q = self.turn(self.mul(x, block + "attn_q").view(n, self.heads, self.head_dim)).transpose(0, 1)
        k = self.turn(self.mul(x, block + "attn_k").view(n, self.heads_kv, self.head_dim)).transpose(0, 1)
        v = self.mul(x, block + "attn_v").view(n, self.heads_kv, self.head_dim).transpose(0, 1)
        k, v = k.repeat_interleave(group, 0), v.repeat_interleave(group, 0)
        scores = q @ k.transpose(1, 2) / math.sqrt(self.head_dim)
        later = torch.ones(n, n, dtype=torch.bool).triu(1)
        mixed = scores.masked_fill(later, -math.inf).softmax(-1) @ v
        return self.mul(mixed.transpose(0, 1).reshape(n, -1), block + "attn_output")

    def logits(self, ids):
        x = self.weights["token_embd.weight"][ids]
        for layer in range(self.layers):
            block = f"blk.{layer}."
            x = x + self.attention(self.norm(x, block + "attn_norm"), block)
            h = self.norm(x, block + "ffn_norm")
            h = torch.nn.functional.silu(self.mul(h, block + "ffn_gate")) * self.mul(h, block + "ffn_up")
            x = x + self.mul(h, block + "ffn_down")
        x = self.norm(x, "output_norm")
        return self.mul(x, "output" if "output.weight" in self.weights else "token_embd")

    def loss(self, sequence):
        """Σ −ln p over the targets of a sequence, and how many: the tokens that follow positions `from` … n − 2."""
        begin, ids = sequence
        if len(ids) - 1 <= begin:
            return torch.zeros((), dtype=self.dtype), 0
        logits = self.logits(torch.tensor(ids[:-1]))[begin:]
        following = torch.tensor(ids[begin + 1 :])
        return torch.nn.functional.cross_entropy(logits, following, reduction="sum"), len(following)

    def mean_loss(self, sequences):
        with torch.no_grad():
            found = [self.loss(s) for s in sequences]
        return sum(float(nll) for nll, _ in found) / max(1, sum(n for _, n in found))

    def adapt(self, targets, rank, alpha, seed):
        """A pair for each target of each layer: A from the linear congruential generator, tensor after tensor; B = 0."""
        self.times = alpha / rank
        state = seed

        def draw():
            nonlocal state
            state = (state * 1103515245 + 12345) % 2**32
            return (((state >> 16) % 32768) / 32768 - 0.5) * 0.01

        for layer in range(self.layers):
            for target in MATRICES:
                if target not in targets:
                    continue
                name = f"blk.{layer}.{MATRICES[target]}"
                rows, columns = self.weights[name + ".weight"].shape
                first = torch.tensor([draw() for _ in range(rank * columns)], dtype=torch.float32)
                a = first.to(self.dtype).view(rank, columns).requires_grad_()
                self.deltas[name] = (a, torch.zeros(rows, rank, dtype=self.dtype, requires_grad=True))
        return [x for pair in self.deltas.values() for x in pair]


def main():
    torch.set_num_threads(1)
    request = json.load(open(sys.argv[1]))
    model = Llama(request["model"], {"f32": torch.float32, "f64": torch.float64}[request.get("dtype", "f32")])
    answer = {"losses": [], "norms": [], "held": [], "seconds": [], "logits": [], "parameters": 0}
    with torch.no_grad():
        answer["logits"] = [model.logits(torch.tensor(ids)).tolist() for ids in request.get("logits", [])]
    held = request.get("held", [])
    if request.get("method", "lora") == "full":
        parameters = [w.requires_grad_() for w in model.weights.values()]
    else:
        parameters = model.adapt(request.get("targets", []), request.get("rank", 4), request.get("alpha", 16), request.get("seed", 42))
    answer["parameters"] = sum(p.numel() for p in parameters)
    answer["held"].append(model.mean_loss(held))
    if parameters:
        betas = request.get("beta1", 0.9), request.get("beta2", 0.999)
        if request.get("optimizer", "adam") == "adam":
            optimizer = torch.optim.AdamW(parameters, lr=0, betas=betas, eps=request.get("epsilon", 1e-8), weight_decay=0)
        else:
            optimizer = torch.optim.SGD(parameters, lr=0, momentum=betas[0])
        origin = [p.detach().clone() for p in parameters]
        for step in request.get("steps", []):
            begun = time.process_time()
            optimizer.zero_grad()
            total, targets = 0.0, sum(max(0, len(ids) - 1 - begin) for begin, ids in step["sequences"])
            for sequence in step["sequences"]:
                nll, n = model.loss(sequence)
                if n > 0:
                    (nll / targets).backward()
                total += float(nll)
            norm = math.sqrt(sum(float(p.grad.double().pow(2).sum()) for p in parameters))
            clip, rate = request.get("clip", 0), step["rate"]
            with torch.no_grad():
                for p, first in zip(parameters, origin):
                    if clip > 0 and norm > clip:
                        p.grad *= clip / norm
                    p.grad += 2 * request.get("anchor", 0) * (p - first)
                    p *= 1 - rate * request.get("decay", 0)  # decoupled (Loshchilov and Hutter 2019), of both optimizers
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
            answer["losses"].append(total / max(1, targets))
            answer["norms"].append(norm)
            answer["seconds"].append(time.process_time() - begun)
    answer["held"].append(model.mean_loss(held))
    json.dump(answer, sys.stdout)


main()
