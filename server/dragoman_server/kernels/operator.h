// Operators as classes: a template makes of each what onnxruntime registers.
//
// An operator has the constants kName, kInputs and kOutputs (arrays of Port), a constructor that takes Attributes, and
// a method compute(Context&). Both throw Failure for what they do not take; onnxruntime gets it as a status.
#pragma once

#include <algorithm>
#include <array>
#include <cstring>
#include <initializer_list>
#include <stdexcept>
#include <string>

#include "onnxruntime_abi.h"

namespace dragoman {

struct Port {
  ElementType type;
  Characteristic characteristic = Characteristic::kRequired;
};

constexpr Port kOptionalAny = {ElementType::kAny, Characteristic::kOptional};

struct Failure : std::runtime_error {
  explicit Failure(ErrorCode code, const std::string& message) : std::runtime_error(message), code(code) {}
  ErrorCode code;
};

// A status of onnxruntime's own on its way back to it.
struct Passed {
  OrtStatus* status;
};

inline void check(OrtStatus* status) {
  if (status != nullptr) throw Passed{status};
}

inline void require(bool holds, const char* message) {
  if (!holds) throw Failure(ErrorCode::kInvalidArgument, message);
}

// The attributes of a node.
class Attributes {
 public:
  Attributes(const Api& api, const OrtKernelInfo* info) : api_(api), info_(info) {}

  template <typename Value>
  Value get(const char* name, Value absent) const {
    Value value{};
    if (OrtStatus* status = api_.attribute(info_, name, &value)) {
      api_.release(status);
      return absent;
    }
    return value;
  }

  // Refuses a node whose attribute says something else.
  void only(const char* name, const char* text) const {
    char found[32] = {};
    size_t size = sizeof found;
    OrtStatus* status = api_.attribute(info_, name, found, &size);
    if (status != nullptr) api_.release(status);
    if (status != nullptr || std::strcmp(found, text) != 0) refuse(name);
  }

  // Refuses a node whose attribute asks for what the operator here does not do.
  template <typename Value>
  void only(const char* name, Value value) const {
    if (get(name, value) != value) refuse(name);
  }

 private:
  [[noreturn]] static void refuse(const char* name) {
    throw Failure(ErrorCode::kNotImplemented, std::string("attribute ") + name);
  }

  const Api& api_;
  const OrtKernelInfo* info_;
};

// The sizes of a tensor's dimensions. They stand in the object: operators ask for so many shapes that memory of its own
// for each would cost as much as some of them compute.
class Shape {
 public:
  Shape() = default;
  Shape(std::initializer_list<int64_t> sizes) : Shape(sizes.begin(), sizes.end()) {}
  Shape(const int64_t* begin, const int64_t* end) : rank_(static_cast<size_t>(end - begin)) {
    require(rank_ <= kMost, "too many dimensions");
    std::copy(begin, end, sizes_);
  }

  void push_back(int64_t size) {
    require(rank_ < kMost, "too many dimensions");
    sizes_[rank_++] = size;
  }

  size_t size() const { return rank_; }
  const int64_t* data() const { return sizes_; }
  const int64_t* begin() const { return sizes_; }
  const int64_t* end() const { return sizes_ + rank_; }
  int64_t operator[](size_t index) const { return sizes_[index]; }
  int64_t& back() { return sizes_[rank_ - 1]; }
  int64_t back() const { return sizes_[rank_ - 1]; }
  bool operator==(const Shape& other) const { return std::equal(begin(), end(), other.begin(), other.end()); }

 private:
  static constexpr size_t kMost = 8;

  int64_t sizes_[kMost] = {};
  size_t rank_ = 0;
};

template <typename Element>
struct Tensor {
  Element* data = nullptr;  // null: an optional input that the node does not have
  Shape shape;
  ElementType type = ElementType::kAny;  // of what is there, for inputs that take several

  size_t rank() const { return shape.size(); }
  int64_t size() const {
    int64_t product = 1;
    for (int64_t dimension : shape) product *= dimension;
    return product;
  }
};

// A run of a node.
class Context {
 public:
  Context(const Api& api, OrtKernelContext* context) : api_(api), context_(context) {}

  template <typename Element>
  Tensor<const Element> input(size_t index) const {
    const OrtValue* value = nullptr;
    check(api_.input(context_, index, &value));
    if (value == nullptr) return {};
    ElementType type{};
    const int64_t* sizes = nullptr;
    size_t count = 0;
    check(api_.shape(value, &type, &sizes, &count));
    void* data = nullptr;
    check(api_.mutable_data(const_cast<OrtValue*>(value), &data));
    return {static_cast<const Element*>(data), Shape(sizes, sizes + count), type};
  }

  // Memory for the output; null for an optional one that the node does not have.
  template <typename Element>
  Element* output(size_t index, const Shape& shape) {
    size_t count = 0;
    check(api_.output_count(context_, &count));
    if (index >= count) return nullptr;
    OrtValue* value = nullptr;
    check(api_.output(context_, index, shape.data(), shape.size(), &value));
    if (value == nullptr) return nullptr;
    void* data = nullptr;
    check(api_.mutable_data(value, &data));
    return static_cast<Element*>(data);
  }

 private:
  const Api& api_;
  OrtKernelContext* context_;
};

// What onnxruntime registers for the class Operator.
template <typename Operator>
struct Registered : OrtCustomOp {
  Registered() {
    name = [](const OrtCustomOp*) { return Operator::kName; };
    execution_provider = [](const OrtCustomOp*) -> const char* { return nullptr; };  // the CPU's
    input_count = [](const OrtCustomOp*) { return Operator::kInputs.size(); };
    input_type = [](const OrtCustomOp*, size_t index) { return Operator::kInputs[index].type; };
    input_characteristic = [](const OrtCustomOp*, size_t index) { return Operator::kInputs[index].characteristic; };
    input_memory = [](const OrtCustomOp*, size_t) { return 0; };
    output_count = [](const OrtCustomOp*) { return Operator::kOutputs.size(); };
    output_type = [](const OrtCustomOp*, size_t index) { return Operator::kOutputs[index].type; };
    output_characteristic = [](const OrtCustomOp*, size_t index) { return Operator::kOutputs[index].characteristic; };
    create_kernel_with_status = create;
    compute_with_status = run;
    destroy_kernel = [](void* kernel) { delete static_cast<Kernel*>(kernel); };
  }

 private:
  struct Kernel {
    Api api;
    Operator op;
  };

  template <typename Work>
  static OrtStatus* guarded(const Api& api, Work work) {
    try {
      work();
      return nullptr;
    } catch (const Passed& passed) {
      return passed.status;
    } catch (const Failure& failure) {
      return api.create_status(failure.code, (std::string(Operator::kName) + ": " + failure.what()).c_str());
    } catch (const std::exception& error) {  // no memory, for one
      return api.create_status(ErrorCode::kFail, error.what());
    }
  }

  static OrtStatus* create(const OrtCustomOp*, const OrtApi* table, const OrtKernelInfo* info, void** kernel) {
    Api api(table);
    return guarded(api, [&] { *kernel = new Kernel{api, Operator(Attributes(api, info))}; });
  }

  static OrtStatus* run(void* kernel, OrtKernelContext* context) {
    auto& self = *static_cast<Kernel*>(kernel);
    return guarded(self.api, [&] {
      Context run(self.api, context);
      self.op.compute(run);
    });
  }
};

}  // namespace dragoman
