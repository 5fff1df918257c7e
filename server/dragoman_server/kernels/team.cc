#include "team.h"

#include <chrono>
#include <memory>

namespace dragoman {
namespace {

// Between two steps of one request a lane is in Python for some 20 microseconds: sleeping meanwhile would cost as much.
constexpr std::chrono::microseconds kAwake{200};
constexpr int kLooks = 64;         // without looking at the clock
constexpr int kPatience = 10'000;  // looks at a part that is not done, before its thread may have this one's core

inline void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

}  // namespace

Team* team_of(size_t threads) {
  thread_local std::unique_ptr<Team> mine;
  if (threads <= 1) return nullptr;
  if (mine == nullptr || mine->threads() != threads) mine = std::make_unique<Team>(threads - 1);
  return mine.get();
}

Team::Team(size_t helpers) {
  try {
    for (size_t i = 0; i < helpers; ++i) threads_.emplace_back([this] { help(); });
  } catch (...) {  // the system gives no more threads: those that it gave have to end before they are forgotten
    end();
    throw;
  }
}

Team::~Team() { end(); }

void Team::end() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    ending_ = true;
  }
  woken_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void Team::share(uint32_t parts) {
  // The last part is this thread's own.
  undone_.store(parts - 1, std::memory_order_relaxed);
  untaken_.store(parts - 1);  // work_ and call_ are seen by whoever takes a part
  if (asleep_.load() && asleep_.exchange(false)) {
    const std::lock_guard<std::mutex> lock(mutex_);
    woken_.notify_all();
  }
  call_(work_, parts - 1);
  while (take_part()) {
  }
  for (int looks = 0; undone_.load(std::memory_order_acquire) != 0; ++looks) {
    pause();
    if (looks > kPatience) std::this_thread::yield();
  }
}

bool Team::take_part() {
  uint32_t untaken = untaken_.load(std::memory_order_relaxed);
  while (untaken != 0) {
    if (untaken_.compare_exchange_weak(untaken, untaken - 1, std::memory_order_acq_rel, std::memory_order_relaxed)) {
      call_(work_, untaken - 1);
      undone_.fetch_sub(1, std::memory_order_release);
      return true;
    }
  }
  return false;
}

void Team::help() {
  using Clock = std::chrono::steady_clock;
  Clock::time_point last = Clock::now();
  for (int looks = 0;; ++looks) {
    if (take_part()) {
      looks = 0;
      last = Clock::now();
    } else if (looks < kLooks) {
      pause();
    } else if (Clock::now() - last < kAwake) {
      looks = 0;
    } else {
      if (!sleep()) return;
      looks = 0;
      last = Clock::now();
    }
  }
}

// Returns whether there is more to do, ever.
bool Team::sleep() {
  std::unique_lock<std::mutex> lock(mutex_);
  asleep_.store(true);
  // Who shares work after this sees that there is somebody to wake, and who did so before is seen here.
  woken_.wait(lock, [this] { return ending_ || untaken_.load() != 0 || !asleep_.load(); });
  return !ending_;
}

}  // namespace dragoman
