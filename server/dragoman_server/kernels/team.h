// Threads that help another one: they take parts of its work while they are awake, and it does the rest itself.
//
// It never waits for one that sleeps, and of those that are awake only for the part that each is at. What a part
// computes depends on nobody, so results are the same to the bit with helpers and without.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

namespace dragoman {

class Team {
 public:
  explicit Team(size_t helpers);
  ~Team();
  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;

  size_t threads() const { return threads_.size() + 1; }  // this one with the helpers

  // Calls work(part) once for each part from 0 on, here and by the helpers, and returns when all is done.
  template <typename Work>
  void run(uint32_t parts, const Work& work) {
    work_ = &work;
    call_ = [](const void* given, uint32_t part) { (*static_cast<const Work*>(given))(part); };
    share(parts);
  }

 private:
  void share(uint32_t parts);
  void end();
  void help();
  bool take_part();
  bool sleep();

  // What helpers look at all the time, in one line of the caches; what is to be done is written while nothing is untaken.
  alignas(64) std::atomic<uint32_t> untaken_{0};
  const void* work_ = nullptr;
  void (*call_)(const void* work, uint32_t part) = nullptr;
  alignas(64) std::atomic<uint32_t> undone_{0};
  alignas(64) std::atomic<bool> asleep_{false};
  bool ending_ = false;  // guarded by mutex_
  std::mutex mutex_;
  std::condition_variable woken_;
  std::vector<std::thread> threads_;
};

// The calling thread's, of so many with it; it is made by the first call, and ends with the thread. Null of one.
Team* team_of(size_t threads);

// Calls work(part) for each part, by the team where there is one.
template <typename Work>
void share(Team* team, uint32_t parts, const Work& work) {
  if (team != nullptr && parts > 1) return team->run(parts, work);
  for (uint32_t part = 0; part < parts; ++part) work(part);
}

}  // namespace dragoman
