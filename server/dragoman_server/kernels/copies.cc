// Copies of positions between the rows of a lane's caches: many short pieces, for which one call is enough.
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace {

// The caches of all layers: (caches, rows, heads, time) positions of `size` bytes.
struct Caches {
  uint8_t* data;
  int64_t caches, rows, heads, time, size;

  uint8_t* at(int64_t cache, int64_t row, int64_t head, int64_t position) const {
    return data + (((cache * rows + row) * heads + head) * time + position) * size;
  }
};

Caches caches_of(uint8_t* data, const int64_t* shape) { return {data, shape[0], shape[1], shape[2], shape[3], shape[4]}; }

void copy(const Caches& caches, int64_t source, int64_t target, int64_t begin, int64_t end) {
  for (int64_t cache = 0; cache < caches.caches; ++cache)
    for (int64_t head = 0; head < caches.heads; ++head)
      std::memcpy(caches.at(cache, target, head, begin), caches.at(cache, source, head, begin),
                  (end - begin) * caches.size);
}

}  // namespace

// For each of `count` copies, positions begins[i] to ends[i] of row sources[i] to row targets[i]; no row is both.
extern "C" __attribute__((visibility("default"))) void dragoman_copy_positions(uint8_t* data, const int64_t* shape,
                                                                               size_t count, const int64_t* sources,
                                                                               const int64_t* targets,
                                                                               const int64_t* begins,
                                                                               const int64_t* ends) {
  const Caches caches = caches_of(data, shape);
  for (size_t i = 0; i < count; ++i) copy(caches, sources[i], targets[i], begins[i], ends[i]);
}

// The same of rows to siblings, which have the first kept[i] positions already, and are as long: lengths[sources[i]].
extern "C" __attribute__((visibility("default"))) void dragoman_copy_siblings(uint8_t* data, const int64_t* shape,
                                                                              size_t count, const int64_t* sources,
                                                                              const int64_t* targets,
                                                                              const int64_t* kept,
                                                                              const int32_t* lengths) {
  const Caches caches = caches_of(data, shape);
  for (size_t i = 0; i < count; ++i)
    if (kept[i] < lengths[sources[i]]) copy(caches, sources[i], targets[i], kept[i], lengths[sources[i]]);
}

// The first lengths[i] positions of row rows[i] become those of `values` (caches, heads, tokens) from begins[i] on.
extern "C" __attribute__((visibility("default"))) void dragoman_write_positions(uint8_t* data, const int64_t* shape,
                                                                                size_t count, const uint8_t* values,
                                                                                int64_t tokens, const int64_t* rows,
                                                                                const int64_t* begins,
                                                                                const int64_t* lengths) {
  const Caches caches = caches_of(data, shape);
  for (size_t i = 0; i < count; ++i)
    for (int64_t cache = 0; cache < caches.caches; ++cache)
      for (int64_t head = 0; head < caches.heads; ++head)
        std::memcpy(caches.at(cache, rows[i], head, 0),
                    values + ((cache * caches.heads + head) * tokens + begins[i]) * caches.size,
                    lengths[i] * caches.size);
}
