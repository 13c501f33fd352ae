"""A training step of Transformer-XL with mixtures of experts."""

import math

import torch
import torch.nn.functional as F

from moe import Experts, HyperRouter, MoEBlock
from weights import Weights


def sinusoids(length, d_model):
    """[length, d_model]: those of distances length - 1 .. 0, sines then cosines."""
    distances = torch.arange(length - 1, -1, -1.0, dtype=torch.float64)
    frequencies = 10000 ** (-torch.arange(0, d_model, 2, dtype=torch.float64) / d_model)
    angles = distances.outer(frequencies)
    return torch.cat([angles.sin(), angles.cos()], dim=1).float()


def relative_shift(scores):
    """Moves row i of [..., q_len, k_len] left by q_len - 1 - i: column = distance becomes column = key."""
    heads, q_len, k_len = scores.shape
    padded = F.pad(scores, (1, 0)).view(heads, k_len + 1, q_len)
    return padded[:, 1:].view(heads, q_len, k_len)


class RelativeAttention:
    def __init__(self, weights, name, num_heads):
        self.qkv = weights.leaf(f"{name}.qkv.weight")
        self.position = weights.leaf(f"{name}.position.weight")
        self.output = weights.leaf(f"{name}.output.weight")
        self.num_heads = num_heads

    def forward(self, hidden, memory, positions, content_bias, position_bias, blocked):
        """hidden: [q_len, batch, d_model]; memory: [m, batch, d_model] or None; blocked: [q_len, k_len]."""
        q_len, batch, _ = hidden.shape
        width = self.output.shape[1]
        q, k, v = F.linear(hidden, self.qkv).split(width, dim=-1)
        if memory is not None:
            # Memories need no gradient, so they are projected apart.
            past_k, past_v = F.linear(memory, self.qkv[width:]).split(width, dim=-1)
            k, v = torch.cat([past_k, k]), torch.cat([past_v, v])

        def heads(x):
            """[batch * heads, length, d_head]"""
            return x.reshape(x.shape[0], batch * self.num_heads, -1).transpose(0, 1)

        q = q.view(q_len, batch, self.num_heads, -1)
        p = F.linear(positions, self.position).view(len(positions), self.num_heads, -1)
        p = p.repeat(1, batch, 1).permute(1, 2, 0)
        scale = q.shape[-1] ** -0.5
        by_position = relative_shift(torch.bmm(heads(q + position_bias), p))
        by_content = heads(q + content_bias)
        scores = torch.baddbmm(by_position, by_content, heads(k).transpose(1, 2), beta=scale, alpha=scale)
        probabilities = scores.masked_fill_(blocked, -math.inf).softmax(dim=-1)
        attended = torch.bmm(probabilities, heads(v)).transpose(0, 1).reshape(q_len, batch, width)
        return F.linear(attended, self.output)


class Layer:
    def __init__(self, weights, layer, num_heads, dropout):
        name = f"layers.{layer}"
        self.attention = RelativeAttention(weights, f"{name}.attention", num_heads)
        self.norm_weight = weights.leaf(f"{name}.attentionNorm.weight")
        self.norm_bias = weights.leaf(f"{name}.attentionNorm.bias")
        router = HyperRouter(weights, "routers.source", layer)
        experts = Experts(weights, f"{name}.feedForward.experts", dropout)
        self.moe = MoEBlock(weights, router, experts, f"{name}.feedForwardNorm", dropout)
        self.dropout = dropout

    def forward(self, hidden, memory, relative, top_k):
        attended = F.dropout(self.attention.forward(hidden, memory, *relative), self.dropout)
        shape = hidden.shape
        hidden = F.layer_norm(hidden + attended, shape[-1:], self.norm_weight, self.norm_bias)
        return self.moe.forward(hidden.view(-1, shape[-1]), top_k).view(shape)


class TransformerXL:
    def __init__(self, weights, num_layers, num_heads, mem_len, dropout):
        self.content_bias = weights.leaf("contentBias")
        self.position_bias = weights.leaf("positionBias")
        self.table = weights.leaf("embedding.tables.0.weight")
        self.output_bias = weights.leaf("softmax.biases.0")
        self.layers = [Layer(weights, layer, num_heads, dropout) for layer in range(num_layers)]
        self.mem_len = mem_len
        self.dropout = dropout
        self.relative = {}

    def positions(self, m, q_len):
        """The sinusoids and the blocked pairs for m remembered and q_len new tokens, made once."""
        if (m, q_len) not in self.relative:
            blocked = torch.ones(q_len, m + q_len, dtype=torch.bool).triu(m + 1)
            self.relative[m, q_len] = sinusoids(m + q_len, self.table.shape[1]), blocked
        return self.relative[m, q_len]

    def loss(self, inputs, targets, memories, top_k):
        """Returns the mean loss of [q_len, batch] tokens, and the memories of the next segment."""
        q_len = len(inputs)
        d_model = self.table.shape[1]
        m = 0 if memories is None else len(memories[0])
        table, blocked = self.positions(m, q_len)
        relative = (F.dropout(table, self.dropout), self.content_bias, self.position_bias, blocked)
        hidden = F.dropout(F.embedding(inputs, self.table) * math.sqrt(d_model), self.dropout)
        kept = []
        for i, layer in enumerate(self.layers):
            memory = None if memories is None else memories[i]
            seen = hidden.detach() if memory is None else torch.cat([memory, hidden.detach()])
            kept.append(seen[-self.mem_len :])
            hidden = layer.forward(hidden, memory, relative, top_k)
        logits = F.linear(F.dropout(hidden, self.dropout), self.table, self.output_bias)
        return F.cross_entropy(logits.view(-1, len(self.table)), targets.flatten()), kept


class Training:
    """A model that has begun to train."""

    def __init__(self, tensors, metadata, dropout):
        self.weights = Weights(tensors)
        num_layers = len(tensors["routers.source.embeddings"])
        sizes = (num_layers, int(metadata["numHeads"]), int(metadata["memLen"]))
        self.model = TransformerXL(self.weights, *sizes, dropout)
        self.parameters = list(self.weights.parameters())
        self.optimizer = torch.optim.Adam(self.parameters, lr=float(metadata["lr"]))
        self.max_grad_norm = float(metadata["maxGradNorm"])
        tokens = self.weights.constant("tokens").long()
        self.inputs, self.targets = tokens[:-1], tokens[1:]
        self.memories = None

    def step(self, top_k):
        """Returns the loss and the norm of the gradients."""
        self.optimizer.zero_grad(set_to_none=True)
        loss, self.memories = self.model.loss(self.inputs, self.targets, self.memories, top_k)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.max_grad_norm)
        self.optimizer.step()
        return loss.item(), norm.item()


class TrainingStepCase:
    """Forward, backward, clipping and Adam."""

    def __init__(self, tensors, metadata):
        self.tensors, self.metadata = tensors, metadata
        self.training = Training(tensors, metadata, float(metadata["dropout"]))

    def run(self, top_k):
        self.training.step(top_k)

    def results(self, top_k):
        training = Training(self.tensors, self.metadata, dropout=0.0)
        steps = [training.step(top_k) for _ in range(int(self.metadata["comparedSteps"]))]
        losses, grad_norms = zip(*steps)
        return {"losses": losses, "gradNorms": grad_norms}
