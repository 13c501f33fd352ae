// transfers: what uploads and downloads hold, with much of them at once and when calls of the CUDA runtime
// fail. Prints "name: ok" for each check, or what is wrong; transfers.test.ts compares.
#include <chrono>
#include <cstdio>
#include <future>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "cuda/completions.h"
#include "cuda/status.h"
#include "test/emulator/resources.h"

namespace hr::cuda {

namespace {

using Bytes = std::vector<unsigned char>;
using emulator::Resources;

constexpr size_t kMiB = size_t{1} << 20;
constexpr size_t kSmall = 1000, kLarge = 17 * kMiB + 5;  // in one block, in two pieces

Bytes content(uint32_t seed, size_t size) {
  Bytes bytes(size);
  for (unsigned char& byte : bytes)
    byte = static_cast<unsigned char>((seed = seed * 1664525 + 1013904223) >> 24);
  return bytes;
}

void pause() { std::this_thread::sleep_for(std::chrono::milliseconds(20)); }

struct Report final : Completion {
  std::promise<bool> promise;  // was there no error?
  void done(std::optional<Error> error) override { promise.set_value(!error); }
};

// A stream of its own, with its completions.
class Transfers {
 public:
  Transfers() {
    check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking));
    failure_ = allocate(sizeof(FailureRecord));
    check(cudaMemsetAsync(failure_, 0xFF, sizeof(FailureRecord), stream_));
    completions_.emplace(0, stream_, static_cast<const FailureRecord*>(failure_));
  }
  ~Transfers() {
    completions_.reset();
    for (void* data : allocations_) cudaFreeAsync(data, stream_);
    cudaStreamDestroy(stream_);
  }

  void* allocate(size_t bytes) {
    check(cudaMallocFromPoolAsync(&allocations_.emplace_back(), bytes, nullptr, stream_));
    return allocations_.back();
  }
  void upload(void* to, const Bytes& from) { completions_->upload(to, from.data(), from.size()); }
  std::future<bool> download(Bytes& to, const void* from) {
    auto report = std::make_unique<Report>();
    std::future<bool> succeeds = report->promise.get_future();
    completions_->download(to.data(), from, to.size(), std::move(report));
    return succeeds;
  }
  std::future<bool> timestamp(double& seconds) {
    auto report = std::make_unique<Report>();
    std::future<bool> succeeds = report->promise.get_future();
    completions_->timestamp(&seconds, std::move(report));
    return succeeds;
  }
  bool holds(const void* data, const Bytes& expected) {
    Bytes found(expected.size());
    return download(found, data).get() && found == expected;
  }

  // Holds the stream for a moment, so that what follows is still under way when its call returns.
  void delay() {
    check(cudaLaunchHostFunc(
        stream_, [](void*) { pause(); }, nullptr));
  }
  // Holds the stream until `event` is set.
  void wait_for(std::future<void>& event) {
    const auto wait = [](void* future) { static_cast<std::future<void>*>(future)->wait(); };
    check(cudaLaunchHostFunc(stream_, wait, &event));
  }

 private:
  cudaStream_t stream_ = nullptr;
  std::list<void*> allocations_;
  void* failure_ = nullptr;
  std::optional<Completions> completions_;
};

// Calls again after a refusal.
template <typename Call>
auto insist(int& refusals, Call&& call) {
  try {
    return call();
  } catch (const Error&) {
    ++refusals;
    return call();
  }
}

// The nth call of `function` fails: one transfer is refused, it and all others succeed when they are asked
// for again.
std::string refuse(const char* function, int nth) {
  Transfers transfers;
  Resources::instance().refuse(function, nth);
  int refusals = 0;
  for (const size_t size : {kSmall, kLarge}) {
    const Bytes sent = content(static_cast<uint32_t>(size), size);
    void* data = transfers.allocate(size);
    insist(refusals, [&] { transfers.upload(data, sent); });
    Bytes found(size);
    std::future<bool> downloaded = insist(refusals, [&] { return transfers.download(found, data); });
    double seconds = -1;
    std::future<bool> stamped = insist(refusals, [&] { return transfers.timestamp(seconds); });
    if (!downloaded.get() || found != sent) return "other bytes came back";
    if (!stamped.get() || seconds < 0) return "no time";
  }
  return refusals == Resources::instance().has_refused() ? ""
                                                         : "refused " + std::to_string(refusals) + " times";
}

std::string nothing_held() {
  Resources& resources = Resources::instance();
  if (const int events = resources.num_events()) return std::to_string(events) + " events are left";
  if (const size_t bytes = resources.pinned_bytes()) return std::to_string(bytes) + " bytes are left pinned";
  return "";
}

std::string refuse_each(const char* function) {
  for (int nth = 1;; ++nth) {
    std::string wrong = refuse(function, nth);
    if (wrong.empty()) wrong = nothing_held();
    if (!wrong.empty()) return "call " + std::to_string(nth) + ": " + wrong;
    if (!Resources::instance().has_refused()) return nth > 2 ? "" : "is hardly called";
  }
}

template <typename Call>
bool is_refused(const char* function, Call&& call) {
  Resources::instance().refuse(function, 1);
  try {
    call();
  } catch (const Error&) {
    return true;
  }
  return false;
}

// What a refused upload has queued is copied before anybody else gets the memory that it is copied from.
std::string refused_upload(size_t size) {
  Transfers transfers;
  const Bytes first = content(1, size), second = content(2, size);
  void *refused = transfers.allocate(size), *other = transfers.allocate(size);
  transfers.delay();
  if (!is_refused("cudaEventRecord", [&] { transfers.upload(refused, first); })) return "not refused";
  transfers.upload(other, second);
  if (!transfers.holds(other, second)) return "the next upload is wrong";
  return transfers.holds(refused, first) ? "" : "its memory was used again too early";
}

// Nothing is written to where a refused download was to go: its caller may have freed that.
std::string refused_download(size_t size) {
  Transfers transfers;
  const Bytes sent = content(1, size), kept(size, 7);
  void* data = transfers.allocate(size);
  transfers.upload(data, sent);
  Bytes to(size);
  transfers.delay();
  if (!is_refused("cudaEventRecord", [&] { transfers.download(to, data); })) return "not refused";
  to = kept;
  if (!transfers.holds(data, sent)) return "the next download is wrong";
  return to == kept ? "" : "it was written to afterwards";
}

// While the stream stands still, calls return, and no more than a part of the data is in pinned memory.
std::string much_at_once() {
  constexpr size_t kMostPinned = (64 + 16 + 1) * kMiB;
  std::vector<Bytes> sent, found;
  for (uint32_t i = 0; i < 24; ++i) sent.push_back(content(i, (i % 4 < 2 ? 3 : 9) * kMiB + i));
  sent.push_back(content(99, kLarge));
  for (const Bytes& bytes : sent) found.emplace_back(bytes.size());
  std::promise<void> go;
  std::future<void> gone = go.get_future();
  Resources::instance().most_pinned_bytes();
  {
    Transfers transfers;
    transfers.wait_for(gone);
    std::vector<void*> data;
    std::vector<std::future<bool>> reports;
    for (size_t i = 0; i <= sent.size(); ++i) {
      if (i < sent.size()) transfers.upload(data.emplace_back(transfers.allocate(sent[i].size())), sent[i]);
      if (i == 0) pause();  // nothing of it may be given back meanwhile
      if (i > 0) reports.push_back(transfers.download(found[i - 1], data[i - 1]));
    }
    go.set_value();
    for (std::future<bool>& report : reports) {
      if (!report.get()) return "a download failed";
    }
  }
  if (found != sent) return "other bytes came back";
  const size_t most = Resources::instance().most_pinned_bytes();
  return most <= kMostPinned ? "" : std::to_string(most / kMiB) + " MiB were pinned";
}

// Closing waits for what is queued, and drops its reports.
std::string closing() {
  Bytes found(kLarge);
  std::future<bool> report;
  {
    Transfers transfers;
    transfers.delay();
    void* data = transfers.allocate(kLarge);
    transfers.upload(data, content(1, kLarge));
    report = transfers.download(found, data);
  }
  try {
    report.get();
  } catch (const std::future_error&) {
    return "";
  }
  return "a download was reported";
}

void report(const std::string& name, std::string wrong) {
  if (wrong.empty()) wrong = nothing_held();
  std::printf("%s: %s\n", name.c_str(), wrong.empty() ? "ok" : wrong.c_str());
}

}  // namespace

}  // namespace hr::cuda

int main() {
  using namespace hr::cuda;
  for (const char* function : {"cudaMallocHost", "cudaEventCreateWithFlags", "cudaMemcpyAsync",
                               "cudaLaunchHostFunc", "cudaEventRecord"}) {
    report(function, refuse_each(function));
  }
  report("refused upload", refused_upload(kSmall));
  report("refused upload in pieces", refused_upload(kLarge));
  report("refused download", refused_download(kSmall));
  report("refused download in pieces", refused_download(kLarge));
  report("much at once", much_at_once());
  report("closing", closing());
}
