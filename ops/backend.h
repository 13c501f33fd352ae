// backend: what a device must provide. One object per device and JavaScript environment; no process statics.
//
// A backend executes ops in call order on its stream. Everything here may be called from one thread only
// (the environment's), and nothing here waits for the device except where a line says so.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>

#include "ops/dtype.h"
#include "ops/error.h"
#include "ops/op_table.h"

namespace hr {

class Stream {
 public:
  virtual ~Stream() = default;
};

// Called once, on any thread, when the stream has reached the point it was given at. When an op fails on the
// stream (an id out of range, say), everything queued behind it is skipped, and every completion gets the
// error, until acknowledge_error() is called.
class Completion {
 public:
  virtual ~Completion() = default;
  virtual void done(std::optional<Error> error) = 0;
};

class Backend {
 public:
  virtual ~Backend() = default;

  virtual const char* name() const = 0;
  virtual std::string description() const = 0;  // for people: instruction set, threads, device name
  virtual DType compute_dtype() const = 0;      // the float dtype every op takes
  virtual const OpTable& ops() const = 0;
  virtual Stream& stream() = 0;

  // Memory is stream-ordered: a released block may be handed out again at once, because whatever uses it
  // next is queued behind whatever used it before. Throws Error{out_of_memory}.
  virtual void* allocate(size_t bytes) = 0;
  virtual void release(void* data, size_t bytes) = 0;

  virtual void upload(void* to, const void* from, size_t bytes) = 0;  // `from` may be reused on return
  virtual void download(void* to, const void* from, size_t bytes, std::unique_ptr<Completion>) = 0;
  virtual void copy(void* to, const void* from, size_t bytes) = 0;  // device to device
  virtual void notify(std::unique_ptr<Completion>) = 0;             // done when the stream gets here
  // `*seconds`: the device's clock when the stream gets here. Only differences mean something.
  virtual void timestamp(double* seconds, std::unique_ptr<Completion>) = 0;
  virtual void synchronize() = 0;  // waits for the stream; throws and acknowledges the error of a failed op
  virtual void acknowledge_error() = 0;  // the caller knows: work queued from here on runs again

  virtual int num_threads() const = 0;
  virtual void set_num_threads(int count) = 0;  // 0: the default; results never depend on it

  struct MemoryStats {
    size_t live_bytes;    // allocated and not released
    size_t peak_bytes;    // highest live_bytes since the last reset
    size_t pooled_bytes;  // held for reuse
  };
  virtual MemoryStats memory_stats() const = 0;
  virtual void reset_peak() = 0;
};

}  // namespace hr
