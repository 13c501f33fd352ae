import * as tf from "@tensorflow/tfjs-core";

/**
 * The forward pass of a HyperRouter mixture of experts with its residual and layer norm. Products are of the form
 * A B, which is ten times as fast here as A Bᵀ. Rows go to the experts and back in JavaScript: `tf.gather` takes as
 * long as half of the products.
 */
export class MoEBlock {
  /** @param tensors What lib/checkpoint/safetensors.ts read. */
  constructor(tensors) {
    const tensor = (name) => tf.tensor(tensors.get(name).data, tensors.get(name).shape);
    const experts = (name) => {
      const { data, shape } = tensors.get(`moe.experts.${name}`);
      const [count, ...rest] = shape;
      const size = data.length / count;
      return Array.from({ length: count }, (_, i) =>
        tf.tensor(data.subarray(i * size, (i + 1) * size), rest),
      );
    };
    const transposed = (x) => tf.transpose(x);
    this.x = tensor("x");
    this.router = generateRouter(tensor);
    this.w1 = experts("w1").map(transposed);
    this.b1 = experts("b1");
    this.w2 = experts("w2").map(transposed);
    this.b2 = experts("b2");
    this.norm = { weight: tensor("norm.weight"), bias: tensor("norm.bias") };
  }

  /** @returns `[numTokens, dModel]`, to be disposed. */
  forward(topK) {
    return tf.tidy(() => {
      const { x, router } = this;
      const logits = tf.fused.matMul({ a: x, b: router.weight, bias: router.bias });
      const { values, indices } = tf.topk(logits, topK, false);
      const y = this.#mixExperts(indices.dataSync(), tf.softmax(values).dataSync(), topK);
      return this.#layerNorm(tf.add(x, y));
    });
  }

  #mixExperts(experts, weights, topK) {
    const x = this.x.dataSync();
    const [, dModel] = this.x.shape;
    const y = new Float32Array(x.length);
    dispatch(experts, this.w1.length).forEach((pairs, expert) => {
      if (pairs.length === 0) return;
      const rows = new Float32Array(pairs.length * dModel);
      pairs.forEach((pair, row) => {
        const begin = Math.floor(pair / topK) * dModel;
        rows.set(x.subarray(begin, begin + dModel), row * dModel);
      });
      const results = this.#expert(expert, tf.tensor2d(rows, [pairs.length, dModel])).dataSync();
      pairs.forEach((pair, row) => {
        const begin = Math.floor(pair / topK) * dModel;
        const weight = weights[pair];
        for (let i = 0; i < dModel; i += 1) y[begin + i] += weight * results[row * dModel + i];
      });
    });
    return tf.tensor2d(y, this.x.shape);
  }

  #expert(expert, a) {
    const hidden = tf.fused.matMul({ a, b: this.w1[expert], bias: this.b1[expert], activation: "relu" });
    return tf.fused.matMul({ a: hidden, b: this.w2[expert], bias: this.b2[expert] });
  }

  #layerNorm(x) {
    const { mean, variance } = tf.moments(x, 1, true);
    const normal = tf.mul(tf.sub(x, mean), tf.rsqrt(tf.add(variance, 1e-5)));
    return tf.add(tf.mul(normal, this.norm.weight), this.norm.bias);
  }
}

/** Once, as inference does: the embedding does not change. */
function generateRouter(tensor) {
  const [embedding, w1, b1, w2, b2] = ["embeddings", "w1", "b1", "w2", "b2"].map((name) =>
    tensor(`routers.source.${name}`),
  );
  const [, dModel] = embedding.shape;
  const linear = (x, w, b) => tf.add(tf.matMul(x, tf.squeeze(w, [0]), false, true), b);
  const rows = tf.reshape(linear(tf.relu(linear(embedding, w1, b1)), w2, b2), [-1, dModel + 1]);
  const weight = tf.transpose(tf.slice(rows, [0, 0], [-1, dModel]));
  // A sum, because a fused product takes no bias that is a view of a matrix.
  return { weight, bias: tf.sum(tf.slice(rows, [0, dModel], [-1, 1]), 1) };
}

/** The (token, slot) pairs of each expert. */
function dispatch(experts, numExperts) {
  const pairs = Array.from({ length: numExperts }, () => []);
  experts.forEach((expert, pair) => pairs[expert].push(pair));
  return pairs;
}
