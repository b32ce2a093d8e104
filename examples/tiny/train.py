#!/usr/bin/env python3
"""Trains the `tiny` example: a ternary byte language model of a few million parameters, on one CPU core.

    python examples/tiny/train.py                 # builds the corpus if need be, trains, writes tiny.pt and config.json

The model
---------
Text is a stream of bytes cut into patches of 4. A start patch of four zero bytes comes first; the global state after
patch t predicts the four bytes of patch t+1.

* Patch embedding: four 8-wide byte embeddings side by side, projected to `d_model`.
* `n_layers` layers, each `x += MLGRU(RMSNorm(x))`, `x += SwiGLU(RMSNorm(x))`. The MLGRU mixes over time with an
  element-wise recurrence and no matrix in the loop: from the gates `f = sigmoid(z_f)`, `c = silu(z_c)`,
  `g = sigmoid(z_g)` it keeps `h <- f*h + (1-f)*c` and emits `g*h`, normalised and projected by W_o. FPResidual adds a
  rank-4 float path to each of z_f, z_c, z_g.
* LocalByteDecoder: a two-layer causal transformer over the four byte positions of one patch, fed with the global state
  and the bytes of the patch known so far.

All matrices are ternary; norms, positions and the FPResidual factors are bfloat16.

Straight-through quantisation
-----------------------------
Every ternary tensor has a float *latent* W that the optimiser moves. The forward pass uses what the exported model
will use: `T = clamp(round(W/gamma), -1, 1)` with `gamma = mean|W|`, one bfloat16 scale `s_w = bf16(gamma)` per tensor,
and activations rounded per vector to int8, `q = round(x*s)`, `s = 127/max|x|`. The product `q . T` is an exact integer
product, `y = (q . T) * s_w/s`. Rounding has no useful derivative, so the backward pass goes *straight through* it:
`dL/dx = dL/dy . (s_w T)` and `dL/dW = dL/dy^T . (q/s)`, as if W were `s_w T` and x were `q/s`. bfloat16 tensors are
rounded in the forward pass likewise. What is trained is therefore what is exported.
The two backward products run in bfloat16 (T and q are exact in it); everything else is float32.

Training
--------
`batch` independent lanes each read the text from some place onwards, `window` patches per step; the recurrent state is
carried from step to step and gradients stop at the window's edge (truncated back-propagation through time). With
probability 1/16 a lane is cut before a step: it restarts with the start patch and a zero state, at the start of a
paragraph or, as often, at any byte (so patches meet the text at every alignment). AdamW; the learning rate warms up,
stays constant, and falls linearly to zero over the last 40 % of the steps.

With `--steps` the run is a function of the seed and the text alone (up to the arithmetic of the machine and library).
`--minutes` instead picks the number of steps by the clock: the fall begins when the constant part has used 60 % of the
time, and the number of steps that follows from it is printed; it is the `--steps` that repeats the run.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import time

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

HERE = os.path.dirname(os.path.abspath(__file__))
CONFIG = {
    "run": "tiny", "internal_name": "tiny_mlgru_byte_ternary_fpres",
    "d_model": 256, "n_layers": 6, "d_ff": 688, "n_heads": 8,
    "tokenizer": "bytes", "vocab_size": 256, "patch_size": 4, "byte_dim": 8,
    "backbone": "mlgru", "window": 0, "rope_base": 10000.0,
    "ternary": True, "fp_residual_rank": 4, "use_w_o": True,
    "bolmo": False, "bolmo_heads": 0,
    "delete_gate": False, "delete_layer": -1, "delete_gate_hidden": 0,
    "pfnet_hidden": 0, "decay_learned": False,
    "decoder": "lbd", "lbd_dim": 128, "lbd_layers": 2, "lbd_heads": 4, "lbd_ff": 512,
    "aligner_dim": 0, "norm_eps": 1e-6, "act_quant": True,
}
STEPS = 7183      # of the committed tiny.pt
DECAY = 0.4       # part of the steps over which the learning rate falls


# --------------------------------------------------------------------------------------------------------- quantisation

def ternarise(weight):
    """Latent weight -> (T as float -1/0/1, scale rounded to bfloat16 as float)."""
    gamma = weight.abs().mean().clamp_min(1e-5)
    return (weight / gamma).round().clamp_(-1, 1), gamma.bfloat16().float()


class BitLinear(torch.autograd.Function):
    """y_k = x . W_k for several ternary matrices that share the input x [tokens, in] (quantised once)."""

    @staticmethod
    def forward(ctx, x, *weights):
        pairs = [ternarise(w) for w in weights]
        ternary = torch.cat([t for t, _ in pairs])
        scale = torch.cat([s.expand(w.shape[0]) for (_, s), w in zip(pairs, weights)])
        s = 127.0 / x.abs().amax(-1, keepdim=True).clamp_min_(1e-5)
        q = (x * s).round_().clamp_(-128, 127).to(torch.int8)
        acc = torch._int_mm(q, ternary.to(torch.int8).t()).float()
        ctx.save_for_backward(q, ternary.bfloat16(), scale, s)
        ctx.sizes = [w.shape[0] for w in weights]
        outputs = [a * (p[1] / s) for a, p in zip(acc.split(ctx.sizes, -1), pairs)]
        return outputs[0] if len(outputs) == 1 else tuple(outputs)

    @staticmethod
    def backward(ctx, *grads):
        q, ternary, scale, s = ctx.saved_tensors
        dy = grads[0] if len(grads) == 1 else torch.cat(grads, -1)
        dx = ((dy * scale).bfloat16() @ ternary).float() if ctx.needs_input_grad[0] else None
        dw = ((dy / s).bfloat16().t() @ q.bfloat16()).float()
        return (dx, *dw.split(ctx.sizes))


def bit_linear(x, *weights):
    return BitLinear.apply(x, *weights)


def bit_embedding(indices, weight):
    t, scale = ternarise(weight.detach())
    return F.embedding(indices, weight + (t * scale - weight).detach())


def rounded(weight):
    """A bfloat16 tensor: rounded forwards, straight through backwards."""
    return weight + (weight.detach().bfloat16().float() - weight.detach())


class RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, eps):
        r = (x.square().mean(-1, keepdim=True) + eps).rsqrt_()
        unit = x * r
        ctx.save_for_backward(unit, r, weight)
        return unit * weight

    @staticmethod
    def backward(ctx, dy):
        unit, r, weight = ctx.saved_tensors
        dw = (dy * unit).sum(tuple(range(dy.dim() - 1)))
        g = dy * weight
        return r * (g - unit * (g * unit).mean(-1, keepdim=True)), dw, None


class Scan(torch.autograd.Function):
    """h_t = f_t * h_{t-1} + b_t over the first axis of [time, lanes, d]; the state before the window is a constant."""

    @staticmethod
    def forward(ctx, f, b, h0):
        h = torch.empty_like(b)
        last = h0
        for t in range(f.shape[0]):
            last = torch.addcmul(b[t], f[t], last, out=h[t])
        ctx.save_for_backward(f, h, h0)
        return h

    @staticmethod
    def backward(ctx, dh):
        f, h, h0 = ctx.saved_tensors
        db = torch.empty_like(dh)
        db[-1] = last = dh[-1]
        for t in range(f.shape[0] - 2, -1, -1):
            last = torch.addcmul(dh[t], f[t + 1], last, out=db[t])
        return torch.cat([db[:1] * h0, db[1:] * h[:-1]]), db, None


# ---------------------------------------------------------------------------------------------------------------- model

class Tiny(nn.Module):
    """Parameters carry the names of the checkpoint (with `.` written `/`), in the checkpoint's order."""

    def __init__(self, c):
        super().__init__()
        self.c = c
        d, e, ff, r, l, lf = c["d_model"], c["byte_dim"], c["d_ff"], c["fp_residual_rank"], c["lbd_dim"], c["lbd_ff"]
        self.ternary, self.p = set(), {}

        def matrix(name, rows, cols, std=None):
            self.ternary.add(name)
            self.p[name] = nn.Parameter(torch.randn(rows, cols) * (std or cols ** -0.5))

        def vector(name, value, *shape):
            self.p[name] = nn.Parameter(torch.full(shape, value))

        residual = (2 * c["n_layers"]) ** -0.5
        matrix("patch_embed.byte_embed.weight", 256, e, 0.5)
        matrix("patch_embed.proj.weight", d, 4 * e)
        for i in range(c["n_layers"]):
            n = f"layers.{i}."
            vector(n + "mixer_norm.weight", 1.0, d)
            for k in ("w_f", "w_c", "w_g"):
                matrix(f"{n}mixer.{k}.weight", d, d)
            self.p[n + "mixer.fp_res.a"] = nn.Parameter(torch.randn(3, r, d) * d ** -0.5)
            self.p[n + "mixer.fp_res.b"] = nn.Parameter(torch.zeros(3, d, r))
            matrix(n + "mixer.w_o.weight", d, d)
            vector(n + "mixer.o_norm.weight", residual, d)
            vector(n + "ffn_norm.weight", 1.0, d)
            matrix(n + "ffn.w_gate.weight", ff, d)
            matrix(n + "ffn.w_up.weight", ff, d)
            matrix(n + "ffn.w_down.weight", d, ff)
            vector(n + "ffn.down_norm.weight", residual, ff)
        vector("norm.weight", 1.0, d)
        matrix("lbd.proj.weight", 4 * l, d)
        matrix("lbd.byte_embed.weight", 256, l, 0.5)
        self.p["lbd.pos"] = nn.Parameter(torch.randn(4, l) * 0.02)
        for j in range(c["lbd_layers"]):
            n = f"lbd.layers.{j}."
            vector(n + "attn_norm.weight", 1.0, l)
            for k in ("w_q", "w_k", "w_v", "w_o"):
                matrix(f"{n}{k}.weight", l, l)
            vector(n + "ffn_norm.weight", 1.0, l)
            matrix(n + "w_gate.weight", lf, l)
            matrix(n + "w_up.weight", lf, l)
            matrix(n + "w_down.weight", l, lf)
        vector("lbd.norm.weight", 1.0, l)
        matrix("lbd.head.weight", 256, l)
        with torch.no_grad():
            # One embedding column is the same for all bytes, so that the model, which has no biases, has a constant.
            self.p["patch_embed.byte_embed.weight"][:, -1] = 0.5
        for name, parameter in self.p.items():
            self.register_parameter(name.replace(".", "/"), parameter)

    def rms(self, x, name):
        return RMSNorm.apply(x, rounded(self.p[name]), self.c["norm_eps"])

    def gates(self, i, y):
        p, n = self.p, f"layers.{i}.mixer."
        z = bit_linear(y, p[n + "w_f.weight"], p[n + "w_c.weight"], p[n + "w_g.weight"])
        a, b = rounded(p[n + "fp_res.a"]), rounded(p[n + "fp_res.b"])
        low = y @ a.flatten(0, 1).t()
        return [zk + lk @ bk.t() for zk, lk, bk in zip(z, low.split(a.shape[1], -1), b)]

    def backbone(self, patches, state, probe=None):
        """patches [time, lanes, 4] -> (final state of every patch [time*lanes, d], recurrent states)."""
        p, c = self.p, self.c
        time_, lanes, _ = patches.shape
        e = bit_embedding(patches.reshape(-1, 4), p["patch_embed.byte_embed.weight"]).flatten(1)
        x = bit_linear(e, p["patch_embed.proj.weight"])
        after = []
        for i in range(c["n_layers"]):
            n = f"layers.{i}."
            y = self.rms(x, n + "mixer_norm.weight")
            if probe:
                probe(i, y)
            zf, zc, zg = self.gates(i, y)
            f = torch.sigmoid(zf)
            b = (1 - f) * F.silu(zc)
            h = Scan.apply(f.view(time_, lanes, -1), b.view(time_, lanes, -1), state[i])
            after.append(h[-1].detach())
            o = torch.sigmoid(zg) * h.view(time_ * lanes, -1)
            x = x + bit_linear(self.rms(o, n + "mixer.o_norm.weight"), p[n + "mixer.w_o.weight"])
            y = self.rms(x, n + "ffn_norm.weight")
            gate, up = bit_linear(y, p[n + "ffn.w_gate.weight"], p[n + "ffn.w_up.weight"])
            a = self.rms(F.silu(gate) * up, n + "ffn.down_norm.weight")
            x = x + bit_linear(a, p[n + "ffn.w_down.weight"])
        return self.rms(x, "norm.weight"), after

    def decoder(self, y, target):
        """Logits [patches*4, 256] of the bytes `target` [patches, 4], each given the bytes before it in its patch."""
        p, c = self.p, self.c
        l, heads = c["lbd_dim"], c["lbd_heads"]
        s = bit_linear(y, p["lbd.proj.weight"]).view(-1, 4, l) + rounded(p["lbd.pos"])
        s = s + F.pad(bit_embedding(target[:, :3], p["lbd.byte_embed.weight"]), (0, 0, 1, 0))
        s = s.reshape(-1, l)
        for j in range(c["lbd_layers"]):
            n = f"lbd.layers.{j}."
            m = self.rms(s, n + "attn_norm.weight")
            q, k, v = (t.view(-1, 4, heads, l // heads).transpose(1, 2)
                       for t in bit_linear(m, *(p[f"{n}w_{k}.weight"] for k in "qkv")))
            o = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            s = s + bit_linear(o.transpose(1, 2).reshape(-1, l), p[n + "w_o.weight"])
            m = self.rms(s, n + "ffn_norm.weight")
            gate, up = bit_linear(m, p[n + "w_gate.weight"], p[n + "w_up.weight"])
            s = s + bit_linear(F.silu(gate) * up, p[n + "w_down.weight"])
        return bit_linear(self.rms(s, "lbd.norm.weight"), p["lbd.head.weight"])

    def zero_state(self, lanes):
        return [torch.zeros(lanes, self.c["d_model"]) for _ in range(self.c["n_layers"])]

    @torch.no_grad()
    def set_forget_gates(self, patches):
        """Starts the forget gates at time constants from about 2 to 90 patches (there is no bias to do it with): the
        first FPResidual component of each layer reads the mean of the gate's input, found on a sample."""
        def probe(i, y):
            mean = y.mean(0)
            self.p[f"layers.{i}.mixer.fp_res.a"][0, 0] = mean / mean.square().sum()
            order = torch.randperm(len(mean))
            self.p[f"layers.{i}.mixer.fp_res.b"][0, :, 0] = torch.linspace(-0.5, 4.5, len(mean))[order]
        self.backbone(patches, self.zero_state(patches.shape[1]), probe)


# -------------------------------------------------------------------------------------------------------- data and loss

class Lanes:
    def __init__(self, text, batch, window, rng):
        self.text, self.batch, self.window, self.rng = text, batch, window, rng
        self.starts = np.flatnonzero(text[:-4 * window - 1] == 10) + 1
        self.at = np.zeros(batch, dtype=np.int64)
        self.last = np.zeros((batch, 4), dtype=np.uint8)
        self.fresh = True

    def next(self):
        """Inputs and targets [time, lanes, 4], and which lanes go on from their state."""
        size = 4 * self.window
        cut = (self.rng.random(self.batch) < 1 / 16) | (self.at + size > len(self.text)) | self.fresh
        self.fresh = False
        for lane in np.flatnonzero(cut):
            if self.rng.random() < 0.5:
                self.at[lane] = self.starts[self.rng.integers(len(self.starts))]
            else:
                self.at[lane] = self.rng.integers(len(self.text) - size)
        target = np.stack([self.text[a:a + size] for a in self.at]).reshape(self.batch, self.window, 4)
        self.last[cut] = 0
        inputs = np.concatenate([self.last[:, None], target[:, :-1]], 1)
        self.last = target[:, -1].copy()
        self.at += size
        turn = lambda a: torch.from_numpy(np.ascontiguousarray(a.swapaxes(0, 1)).astype(np.int64))
        return turn(inputs), turn(target), torch.from_numpy((~cut).astype(np.float32))[:, None]


@torch.no_grad()
def heldout_bits(model, text, chunk=1024):
    """Bits per byte of the whole text as one stream (a last incomplete patch is left out)."""
    patches = np.concatenate([np.zeros((1, 4), np.uint8), text[:len(text) // 4 * 4].reshape(-1, 4)]).astype(np.int64)
    patches = torch.from_numpy(patches)[:, None]
    state, total = model.zero_state(1), 0.0
    for at in range(0, len(patches) - 1, chunk):
        inputs, target = patches[at:at + chunk], patches[at + 1:at + chunk + 1]
        y, state = model.backbone(inputs[:len(target)], state)
        target = target.reshape(-1, 4)
        total += F.cross_entropy(model.decoder(y, target), target.reshape(-1), reduction="sum").item()
    return total / math.log(2) / (4 * (len(patches) - 1))


# --------------------------------------------------------------------------------------------------------------- export

def pack(t):
    """Ternary [rows, cols] -> uint8 [rows, ceil(cols/4)]: two bits an element, lowest first; 0, +1, -1 are 0, 1, 2."""
    codes = torch.where(t < 0, 2, t.int()).to(torch.uint8)
    codes = F.pad(codes, (0, -t.shape[1] % 4)).view(t.shape[0], -1, 4)
    return codes[..., 0] | codes[..., 1] << 2 | codes[..., 2] << 4 | codes[..., 3] << 6


@torch.no_grad()
def export(model, step, path):
    state = {}
    for name, parameter in model.p.items():
        if name in model.ternary:
            t, scale = ternarise(parameter)
            state[name] = {"packed": pack(t), "scale": scale.bfloat16().reshape(1), "shape": list(t.shape)}
        else:
            state[name] = parameter.detach().bfloat16().clone()
    data = {"format": "compact_2bit", "version": 1, "config": dict(model.c), "step": step, "state": state}
    part = os.path.splitext(path)[0] + ".part"  # the archive's inner folder takes its name from the file: `tiny`
    torch.save(data, part)
    os.replace(part, path)
    config = os.path.join(os.path.dirname(path), "config.json")
    with open(config + ".part", "w") as file:
        json.dump(model.c, file, indent=1)
        file.write("\n")
    os.replace(config + ".part", config)


# ------------------------------------------------------------------------------------------------------------- training

def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default=os.path.join(HERE, "build"), help="folder of train.txt and heldout.txt")
    parser.add_argument("--out", default=os.path.join(HERE, "tiny.pt"))
    parser.add_argument("--steps", type=int, default=None, help=f"number of steps (default: {STEPS})")
    parser.add_argument("--minutes", type=float, default=None, help="choose the number of steps by the clock instead")
    parser.add_argument("--batch", type=int, default=16, help="lanes")
    parser.add_argument("--window", type=int, default=64, help="patches per lane and step")
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--log-every", type=int, default=50)
    parser.add_argument("--eval-every", type=int, default=1000)
    parser.add_argument("--save-minutes", type=float, default=4, help="export this often while training")
    parser.add_argument("--resume", action="store_true", help="go on from the state that the last export left in --data")
    for key in ("d_model", "n_layers", "d_ff"):
        parser.add_argument("--" + key.replace("_", "-"), type=int, default=CONFIG[key])
    args = parser.parse_args()
    if args.steps is None and args.minutes is None:
        args.steps = STEPS

    if not os.path.exists(os.path.join(args.data, "train.txt")):
        subprocess.run([sys.executable, os.path.join(HERE, "corpus.py"), "--out", args.data], check=True)
    os.makedirs(os.path.dirname(os.path.abspath(args.out)), exist_ok=True)
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    rng = np.random.default_rng(args.seed)
    text = np.fromfile(os.path.join(args.data, "train.txt"), dtype=np.uint8)
    heldout = np.fromfile(os.path.join(args.data, "heldout.txt"), dtype=np.uint8)

    model = Tiny({**CONFIG, "d_model": args.d_model, "n_layers": args.n_layers, "d_ff": args.d_ff})
    lanes = Lanes(text, args.batch, args.window, rng)
    sample = np.stack([text[a:a + 256] for a in rng.integers(0, len(text) - 256, 16)]).reshape(16, 64, 4)
    model.set_forget_gates(torch.from_numpy(sample.swapaxes(0, 1).astype(np.int64)))
    print(f"{sum(q.numel() for q in model.parameters())} parameters, {len(text)} bytes of text")
    optimiser = torch.optim.AdamW([
        {"params": [q for n, q in model.p.items() if n in model.ternary], "weight_decay": 0.02},
        {"params": [q for n, q in model.p.items() if n not in model.ternary], "weight_decay": 0.0},
    ], lr=args.lr, betas=(0.9, 0.95), fused=True)

    state = model.zero_state(args.batch)
    steps, step, spent = args.steps, 0, 0.0
    kept = os.path.join(args.data, "state.pt")
    if args.resume:
        saved = torch.load(kept, weights_only=False)
        model.load_state_dict(saved["model"])
        optimiser.load_state_dict(saved["optimiser"])
        lanes.__dict__.update(saved["lanes"])
        state, steps, step, spent = saved["state"], saved["steps"], saved["step"], saved["spent"]

    def save():
        export(model, step, args.out)
        lane = {k: v for k, v in lanes.__dict__.items() if k not in ("text", "starts")}
        torch.save({"model": model.state_dict(), "optimiser": optimiser.state_dict(), "lanes": lane, "state": state,
                    "steps": steps, "step": step, "spent": time.time() - begin}, kept + ".part")
        os.replace(kept + ".part", kept)

    begin = time.time() - spent
    last_save, recent = time.time(), []
    while steps is None or step < steps:
        if steps is None and time.time() - begin >= (1 - DECAY) * args.minutes * 60:
            steps = max(step + 1, round(step / (1 - DECAY)))
            print(f"--steps {steps} repeats this run", flush=True)
        lr = args.lr * min(1.0, (step + 1) / 200)
        if steps is not None:
            lr *= min(1.0, (steps - step) / (DECAY * steps))
        for group in optimiser.param_groups:
            group["lr"] = lr
        inputs, target, keep = lanes.next()
        y, state = model.backbone(inputs, [h * keep for h in state])
        target = target.reshape(-1, 4)
        loss = F.cross_entropy(model.decoder(y, target), target.reshape(-1))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        step += 1
        recent.append(loss.item() / math.log(2))
        if step % args.log_every == 0:
            seen = step * args.batch * args.window * 4 / 1e6
            print(f"step {step} train {np.mean(recent):.4f} bits/byte, lr {lr:.2e}, grad {norm:.2f}, {seen:.1f} MB, "
                  f"{(time.time() - begin) / 60:.1f} min", flush=True)
            recent = []
        if step % args.eval_every == 0:
            print(f"step {step} held-out {heldout_bits(model, heldout):.4f} bits/byte", flush=True)
        if time.time() - last_save > args.save_minutes * 60:
            save()
            last_save = time.time()
    save()
    print(f"done: {step} steps, {(time.time() - begin) / 60:.1f} min, held-out {heldout_bits(model, heldout):.4f} "
          f"bits/byte, {os.path.getsize(args.out)} bytes in {os.path.basename(args.out)}")


if __name__ == "__main__":
    main()
