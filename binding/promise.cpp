#include "binding/promise.h"

#include <utility>

#include "binding/environment.h"
#include "binding/errors.h"

namespace hr::binding {

namespace {

class PromiseSettlement final : public Settlement {
 public:
  PromiseSettlement(Backend& backend, napi_deferred deferred, napi_ref value)
      : backend_(backend), deferred_(deferred), value_(value) {}
  void fail(Error error) { error_ = std::move(error); }

  void settle(napi_env env) override {
    guarded(env, [&]() -> napi_value {
      if (error_) {
        backend_.acknowledge_error();
        ok(napi_reject_deferred(env, deferred_, error_value(env, *error_)));
      } else {
        napi_value value;
        ok(napi_get_reference_value(env, value_, &value));
        ok(napi_resolve_deferred(env, deferred_, value));
      }
      ok(napi_delete_reference(env, value_));
      return nullptr;
    });
  }

 private:
  Backend& backend_;
  napi_deferred deferred_;
  napi_ref value_;
  std::optional<Error> error_;
};

class PromiseCompletion final : public Completion {
 public:
  PromiseCompletion(Environment& environment, std::unique_ptr<PromiseSettlement> settlement)
      : environment_(environment), settlement_(std::move(settlement)) {}
  // Of a call that was refused: nobody has the promise, but the process waits for it.
  ~PromiseCompletion() override {
    if (settlement_) environment_.deliver(std::move(settlement_));
  }
  void done(std::optional<Error> error) override {
    if (error) settlement_->fail(std::move(*error));
    environment_.deliver(std::move(settlement_));
  }

 private:
  Environment& environment_;
  std::unique_ptr<PromiseSettlement> settlement_;
};

}  // namespace

std::unique_ptr<Completion> make_promise(napi_env env, Backend& backend, napi_value value,
                                         napi_value* promise) {
  Environment& environment = Environment::of(env);
  // A reference holds objects only: callers pass an ArrayBuffer or a plain object.
  napi_ref reference;
  ok(napi_create_reference(env, value, 1, &reference));
  napi_deferred deferred;
  ok(napi_create_promise(env, &deferred, promise));
  environment.expect_settlement();
  return std::make_unique<PromiseCompletion>(
      environment, std::make_unique<PromiseSettlement>(backend, deferred, reference));
}

}  // namespace hr::binding
