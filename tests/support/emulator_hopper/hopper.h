// The words of `hopper.cuh` and `wgmma.cuh` on a CPU. Copies land late or at once, products are made at once or only when they are
// waited for, barriers that get one arrival too many are faults.
struct alignas(64) TensorMap {
  u64 pointer, columns, rows, matrices, box_rows, rest[11];
};
#define SWIZZLED_MEMORY(name) unsigned char* const name = shared_bytes

struct Barrier {
  int count, pending;
  i64 bytes;
  u32 parity;
};
static std::map<u32, Barrier> barriers;
inline Barrier& barrier_at(u32 address) {
  auto found = barriers.find(address);
  if (found == barriers.end()) fail("no barrier at " + std::to_string(address));
  return found->second;
}
inline void end_phase_of(Barrier& barrier) {
  if (barrier.pending || barrier.bytes) return;
  barrier.parity ^= 1;
  barrier.pending = barrier.count;
  ++progress;
}
inline void barrier_init(u32 address, u32 count) {
  shared_at(address);
  if (address % 8) fail("a barrier is not aligned");
  barriers[address] = {(int)count, (int)count, 0, 0};
}
inline void barriers_are_made() {}
inline void barrier_arrive(u32 address) {
  Barrier& barrier = barrier_at(address);
  if (--barrier.pending < 0) fail("one arrival too many at a barrier");
  end_phase_of(barrier);
}
inline void barrier_expect(u32 address, u32 bytes) {
  barrier_at(address).bytes += bytes;
  barrier_arrive(address);
}
inline void barrier_wait(u32 address, u32 parity) {
  wait_until([&] { return barrier_at(address).parity != parity; });
}

// ---- the copy engine
inline u32 swizzled(u32 address) { return address ^ (address >> 7 & 7) << 4; }
static std::deque<std::function<void()>> copies;
static bool copies_are_late;
inline void copy_box(u32 destination, const TensorMap& map, u32 barrier, int column, int row, int matrix) {
  if (destination % 1024) fail("a tile is not aligned");
  const TensorMap* const of = &map;
  auto copy = [=] {
    for (u32 r = 0; r < of->box_rows; ++r)
      for (u32 c = 0; c < 64; ++c) {
        const bool inside = column + c < of->columns && row + r < of->rows && (u64)matrix < of->matrices;
        const u16* const from = (const u16*)of->pointer + (((u64)matrix * of->rows + row + r) * of->columns + column + c);
        const u16 value = inside ? *from : 0;
        memcpy(shared_at(swizzled(destination + 128 * r + 2 * c)), &value, 2);
      }
    Barrier& to_tell = barrier_at(barrier);
    to_tell.bytes -= 128 * of->box_rows;
    end_phase_of(to_tell);
  };
  if (copies_are_late)
    copies.push_back(copy);
  else
    copy();
}
inline bool land_some_copies() {
  const bool any = !copies.empty();
  while (!copies.empty() && dice() % 8 == 0) {
    const size_t which = dice() % copies.size();
    auto copy = copies[which];
    copies.erase(copies.begin() + which);
    copy();
  }
  return any;
}

// A box on its way out is read late, when its thread waits for it or at any time before.
struct BoxesOut {
  std::vector<std::function<void()>> open;
  std::deque<std::vector<std::function<void()>>> groups;
};
static std::map<int, BoxesOut> boxes_out;
inline void make_seen() {}
inline void store_box(const TensorMap& map, u32 source, int column, int row, int matrix) {
  if (source % 1024) fail("a tile is not aligned");
  const TensorMap* const of = &map;
  boxes_out[current].open.push_back([=] {
    for (u32 r = 0; r < of->box_rows; ++r)
      for (u32 c = 0; c < 64; ++c)
        if (column + c < of->columns && row + r < of->rows && (u64)matrix < of->matrices)
          memcpy((u16*)of->pointer + (((u64)matrix * of->rows + row + r) * of->columns + column + c),
                 shared_at(swizzled(source + 128 * r + 2 * c)), 2);
  });
}
inline void stores_commit() {
  BoxesOut& mine = boxes_out[current];
  mine.groups.push_back(mine.open);
  mine.open.clear();
}
template <int LEFT>
inline void stores_wait_read() {
  BoxesOut& mine = boxes_out[current];
  while ((int)mine.groups.size() > LEFT) {
    for (auto& box : mine.groups.front()) box();
    mine.groups.pop_front();
  }
}
inline void stores_wait_all() { stores_wait_read<0>(); }
inline void store_matrices(u32 address, u32 r0, u32 r1, u32 r2, u32 r3) {
  u32 r[4] = {r0, r1, r2, r3};
  move_matrices<false, false>(r, address);
}
inline void store_matrices_transposed(u32 address, u32 r0, u32 r1, u32 r2, u32 r3) {
  u32 r[4] = {r0, r1, r2, r3};
  move_matrices<false, true>(r, address);
}

// ---- two 16-bit numbers at once
template <int DTYPE_, class Each>
inline u32 of_pairs(u32 a, u32 b, Each each) {
  const auto half = [](u32 word, int h) { return unpacked<DTYPE_>((u16)(word >> 16 * h)); };
  return pack<DTYPE_>(each(half(a, 0), half(b, 0)), each(half(a, 1), half(b, 1)));
}
template <int DTYPE_>
inline u32 sum_of_pairs(u32 a, u32 b) { return of_pairs<DTYPE_>(a, b, [](float x, float y) { return x + y; }); }
template <int DTYPE_>
inline u32 lower_of_pairs(u32 a, u32 b) { return of_pairs<DTYPE_>(a, b, [](float x, float y) { return x != x || x < y ? x : y; }); }
template <int DTYPE_>
inline u32 upper_of_pairs(u32 a, u32 b) { return of_pairs<DTYPE_>(a, b, [](float x, float y) { return x != x || x > y ? x : y; }); }

// ---- products: queued by the last of 128 threads that asks
struct Products {
  struct Asked {
    float* d;
    u32 a[4], b, add;
  } asked[128];
  std::vector<std::function<void()>> open;
  std::deque<std::vector<std::function<void()>>> groups;
};
static std::map<int, Products> products;
static bool products_are_early;
template <class All>
inline void with_warpgroup(All all) {
  meet(1000 + (current >> 7), current & 127, 128, 0, [&](Meeting&) { all(products[current >> 7]); });
}
inline u32 operand(u32 address, u32 stride) { return (address & 0x3ffffu) >> 4 | (stride >> 4) << 16; }
// Element (outer, inner) of an operand: rows of 64 `inner` elements, or, transposed, panels of 64 `outer` elements in rows of `inner`.
inline float element(u32 descriptor, int outer, int inner, bool transposed) {
  const u32 start = (descriptor & 0x3fff) << 4, stride = (descriptor >> 16 & 0x3fff) << 4;
  const u32 at = transposed ? start + outer / 64 * stride + inner * 128 + outer % 64 * 2 : start + outer * 128 + inner * 2;
  u16 bits;
  memcpy(&bits, shared_at(swizzled(at)), 2);
  return unpacked<DTYPE>(bits);
}
// How operands lie: left from registers, or in shared memory with its rows or, turned, with its 16 as rows; right the same.
struct Way {
  bool left_in_registers, left_turned, right_turned;
};
template <int N>
inline void multiply_of_warpgroup(const Products::Asked (&asked)[128], Way way) {
  static float a[64][16], b[N][16];
  for (int m = 0; m < 64; ++m)
    for (int k = 0; k < 16; ++k) {
      const int thread = m / 16 * 32 + m % 8 * 4 + k % 8 / 2, word = m / 8 % 2 + k / 8 * 2;
      a[m][k] = way.left_in_registers ? unpacked<DTYPE>(asked[thread].a[word] >> k % 2 * 16)
                                      : element(asked[0].a[0], m, k, way.left_turned);
    }
  for (int n = 0; n < N; ++n)
    for (int k = 0; k < 16; ++k) b[n][k] = element(asked[0].b, n, k, way.right_turned);
  for (int thread = 0; thread < 128; ++thread)
    for (int i = 0; i < N / 2; ++i) {
      const int row = thread / 32 * 16 + thread % 32 / 4 + i / 2 % 2 * 8, column = i / 4 * 8 + thread % 4 * 2 + i % 2;
      float sum = 0;
      for (int k = 0; k < 16; ++k) sum += a[row][k] * b[column][k];
      float& d = asked[thread].d[i];
      d = (asked[0].add ? d : 0.f) + sum;
    }
}
template <int N>
struct Wgmma {
  static void ask(float* d, const u32 (&a)[4], u32 b, int add, Way way) {
    Products::Asked& mine = products[current >> 7].asked[current & 127];
    mine = {d, {a[0], a[1], a[2], a[3]}, b, (u32)add};
    with_warpgroup([=](Products& of) {
      std::vector<Products::Asked> all(of.asked, of.asked + 128);
      for (auto& one : all)
        if (one.b != all[0].b || one.add != all[0].add || (!way.left_in_registers && one.a[0] != all[0].a[0]))
          fail("threads of a warpgroup ask for different products");
      of.open.push_back([=] { multiply_of_warpgroup<N>(*(const Products::Asked(*)[128])all.data(), way); });
    });
  }
  static void shared(float (&d)[N / 2], u32 a, u32 b, int add) { ask(d, {a, 0, 0, 0}, b, add, {false, false, false}); }
  static void registers(float (&d)[N / 2], u32 a0, u32 a1, u32 a2, u32 a3, u32 b, int add) {
    ask(d, {a0, a1, a2, a3}, b, add, {true, false, true});
  }
  static void registers_rows(float (&d)[N / 2], u32 a0, u32 a1, u32 a2, u32 a3, u32 b, int add) {
    ask(d, {a0, a1, a2, a3}, b, add, {true, false, false});
  }
  static void turned(float (&d)[N / 2], u32 a, u32 b, int add) { ask(d, {a, 0, 0, 0}, b, add, {false, true, false}); }
};
inline void products_begin() {}
inline void make_oldest_group(Products& of) {
  for (auto& product : of.groups.front()) product();
  of.groups.pop_front();
}
inline void products_commit() {
  with_warpgroup([](Products& of) {
    of.groups.push_back(of.open);
    of.open.clear();
    if (products_are_early) make_oldest_group(of);
  });
}
template <int LEFT>
inline void products_wait() {
  with_warpgroup([](Products& of) {
    if (!of.open.empty()) fail("products are waited for that were not committed");
    while ((int)of.groups.size() > LEFT) make_oldest_group(of);
  });
}
inline u32 product_of_pairs(u32 a, u32 b) {
  return pack<BF16>(unpacked<BF16>((u16)a) * unpacked<BF16>((u16)b), unpacked<BF16>(a >> 16) * unpacked<BF16>(b >> 16));
}
template <int REGISTERS>
inline void registers_shrink() {}
template <int REGISTERS>
inline void registers_grow() {}

inline void begin_hopper(bool late_copies, bool early_products) {
  barriers.clear();
  copies.clear();
  products.clear();
  boxes_out.clear();
  copies_are_late = late_copies;
  products_are_early = early_products;
}
