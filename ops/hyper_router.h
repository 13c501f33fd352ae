// hyper_router: the routers of all layers, generated from their embeddings by a hypernetwork.
//
//   u = W1·e + c1;   a = max(u, 0);   o = W2·a + c2;   M = reshape(o, [num_experts, d_model + 1])
//   router_weight = M[:, :d_model];   router_bias = M[:, d_model]             [Do et al. 2023, HyperRouter]
//
// The result depends on no token, so one call serves all layers for a whole optimiser step. The leading
// size of the hypernetwork is num_layers (one network per layer) or 1 (one network shared by all).
#pragma once

#include "ops/check.h"

namespace hr {

struct HyperRouterGenerateParams {
  In embedding;       // [num_layers, embed_dim]
  In w1;              // [num_networks, hyper_size, embed_dim]
  In b1;              // [num_networks, hyper_size]
  In w2;              // [num_networks, num_experts·(d_model+1), hyper_size]
  In b2;              // [num_networks, num_experts·(d_model+1)]
  Out hidden;         // [num_layers, hyper_size] a, saved for backward
  Out router_weight;  // [num_layers, num_experts, d_model]
  Out router_bias;    // [num_layers, num_experts]
  HR_FIELDS(embedding, w1, b1, w2, b2, hidden, router_weight, router_bias)
  void check() const {
    Check c("hyper_router_generate");
    c.floats({{"embedding", embedding},
              {"w1", w1},
              {"b1", b1},
              {"w2", w2},
              {"b2", b2},
              {"hidden", hidden},
              {"router_weight", router_weight},
              {"router_bias", router_bias}});
    auto [num_layers, embed_dim] = c.dims<2>("embedding", embedding, {"num_layers", "embed_dim"});
    auto [num_networks, hyper_size, w1_in] = c.dims<3>("w1", w1, {"num_networks", "hyper_size", "embed_dim"});
    c.require(num_networks == 1 || num_networks == num_layers, "w1",
              "\"w1\" holds " + std::to_string(num_networks.value) +
                  " networks, expected 1 or num_layers=" + std::to_string(num_layers.value));
    auto [rw_layers, num_experts, d_model] =
        c.dims<3>("router_weight", router_weight, {"num_layers", "num_experts", "d_model"});
    const Dim outputs{"num_experts*(d_model+1)", num_experts * (d_model + 1)};
    c.shape("w1", w1, {num_networks, hyper_size, embed_dim});
    c.shape("b1", b1, {num_networks, hyper_size});
    c.shape("w2", w2, {num_networks, outputs, hyper_size});
    c.shape("b2", b2, {num_networks, outputs});
    c.shape("hidden", hidden, {num_layers, hyper_size});
    c.shape("router_weight", router_weight, {num_layers, num_experts, d_model});
    c.shape("router_bias", router_bias, {num_layers, num_experts});
  }
};

// hyper_router_backward: all gradients accumulate.
//   do = [d_weight | d_bias] flattened;   da = W2ᵀ·do;   du = da · 1[a > 0];   d_e += W1ᵀ·du
//   d_W2 += do·aᵀ, d_c2 += do, d_W1 += du·eᵀ, d_c1 += du     (only when the hypernetwork trains)
struct HyperRouterBackwardParams {
  In d_router_weight;    // [num_layers, num_experts, d_model]
  In d_router_bias;      // [num_layers, num_experts]
  In embedding;          // [num_layers, embed_dim]
  In w1;                 // [num_networks, hyper_size, embed_dim]
  In w2;                 // [num_networks, num_experts·(d_model+1), hyper_size]
  In hidden;             // [num_layers, hyper_size]
  OptInOut d_embedding;  // [num_layers, embed_dim]
  OptInOut d_w1;         // as w1
  OptInOut d_b1;         // [num_networks, hyper_size]
  OptInOut d_w2;         // as w2
  OptInOut d_b2;         // [num_networks, num_experts·(d_model+1)]
  HR_FIELDS(d_router_weight, d_router_bias, embedding, w1, w2, hidden, d_embedding, d_w1, d_b1, d_w2, d_b2)
  void check() const {
    Check c("hyper_router_backward");
    c.floats({{"d_router_weight", d_router_weight},
              {"d_router_bias", d_router_bias},
              {"embedding", embedding},
              {"w1", w1},
              {"w2", w2},
              {"hidden", hidden},
              {"d_embedding", d_embedding},
              {"d_w1", d_w1},
              {"d_b1", d_b1},
              {"d_w2", d_w2},
              {"d_b2", d_b2}});
    auto [num_layers, embed_dim] = c.dims<2>("embedding", embedding, {"num_layers", "embed_dim"});
    auto [num_networks, hyper_size, w1_in] = c.dims<3>("w1", w1, {"num_networks", "hyper_size", "embed_dim"});
    c.require(num_networks == 1 || num_networks == num_layers, "w1",
              "\"w1\" holds " + std::to_string(num_networks.value) +
                  " networks, expected 1 or num_layers=" + std::to_string(num_layers.value));
    auto [rw_layers, num_experts, d_model] =
        c.dims<3>("d_router_weight", d_router_weight, {"num_layers", "num_experts", "d_model"});
    const Dim outputs{"num_experts*(d_model+1)", num_experts * (d_model + 1)};
    c.shape("d_router_weight", d_router_weight, {num_layers, num_experts, d_model});
    c.shape("d_router_bias", d_router_bias, {num_layers, num_experts});
    c.shape("w1", w1, {num_networks, hyper_size, embed_dim});
    c.shape("w2", w2, {num_networks, outputs, hyper_size});
    c.shape("hidden", hidden, {num_layers, hyper_size});
    c.shape("d_embedding", d_embedding, {num_layers, embed_dim});
    c.shape("d_w1", d_w1, {num_networks, hyper_size, embed_dim});
    c.shape("d_b1", d_b1, {num_networks, hyper_size});
    c.shape("d_w2", d_w2, {num_networks, outputs, hyper_size});
    c.shape("d_b2", d_b2, {num_networks, outputs});
  }
};

#define OPS_HYPER_ROUTER(OP)                           \
  OP(hyper_router_generate, HyperRouterGenerateParams) \
  OP(hyper_router_backward, HyperRouterBackwardParams)

}  // namespace hr
