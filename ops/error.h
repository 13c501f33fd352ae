// error: the only exception type that leaves an op, a backend or the storage layer.
//
// Errors are data: a kind, the op and argument they are about, and one line of detail. The binding turns
// them into the JavaScript class of the same kind; nothing here prints, aborts or exits.
#pragma once

#include <exception>
#include <string>
#include <utility>

namespace hr {

enum class ErrorKind {
  shape,          // an argument has the wrong shape
  dtype,          // an argument has a dtype this op or device does not take
  device,         // unknown or unavailable device, or arguments on two devices
  value,          // a scalar or a tensor's content is out of range, or arguments overlap
  unsupported,    // this device has no kernel for the op
  out_of_memory,  // an allocation failed
  disposed,       // a handle does not name a live tensor
  internal,       // an invariant of this library is broken
};

class Error : public std::exception {
 public:
  Error(ErrorKind kind, std::string op, std::string arg, std::string detail)
      : kind_(kind), op_(std::move(op)), arg_(std::move(arg)), detail_(std::move(detail)) {
    what_ = op_ + ": " + detail_;
  }
  ErrorKind kind() const { return kind_; }
  const std::string& op() const { return op_; }
  const std::string& arg() const { return arg_; }
  const std::string& detail() const { return detail_; }
  const char* what() const noexcept override { return what_.c_str(); }

 private:
  ErrorKind kind_;
  std::string op_, arg_, detail_, what_;
};

}  // namespace hr
