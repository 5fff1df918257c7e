// What a library of operators needs of onnxruntime's C interface, and nothing else of it.
//
// Functions are called by their place in the table that onnxruntime hands out, the same for all versions of the
// interface that it has: later ones only append. One function is of version 24, all others are of version 1. The
// description of an operator is that of version 16, the first with statuses as results.
#pragma once

#include <cstddef>
#include <cstdint>

struct OrtStatus;
struct OrtValue;
struct OrtKernelInfo;
struct OrtKernelContext;
struct OrtSessionOptions;
struct OrtCustomOpDomain;
struct OrtCustomOp;

using OrtApi = void*;  // a table of functions; see Api

struct OrtApiBase {
  const OrtApi* (*get_api)(uint32_t version);
  const char* (*get_version)();
};

namespace dragoman {

constexpr uint32_t kInterfaceVersion = 16;
constexpr uint32_t kLeastVersion = 24;  // what onnxruntime must have

enum class ErrorCode : int { kFail = 1, kInvalidArgument = 2, kNotImplemented = 9 };
enum class ElementType : int { kAny = 0, kFloat = 1, kUint8 = 2, kInt8 = 3, kInt32 = 6, kInt64 = 7, kHalf = 10 };
enum class Characteristic : int { kRequired = 0, kOptional = 1 };

// onnxruntime's functions, by their place in the table.
class Api {
 public:
  explicit Api(const OrtApi* table) : table_(table) {}

  OrtStatus* create_status(ErrorCode code, const char* message) const {
    return call<OrtStatus*, ErrorCode, const char*>(0, code, message);
  }
  OrtStatus* create_domain(const char* name, OrtCustomOpDomain** made) const {
    return call<OrtStatus*, const char*, OrtCustomOpDomain**>(26, name, made);
  }
  OrtStatus* add_operator(OrtCustomOpDomain* domain, const OrtCustomOp* op) const {
    return call<OrtStatus*, OrtCustomOpDomain*, const OrtCustomOp*>(27, domain, op);
  }
  OrtStatus* add_domain(OrtSessionOptions* options, OrtCustomOpDomain* domain) const {
    return call<OrtStatus*, OrtSessionOptions*, OrtCustomOpDomain*>(28, options, domain);
  }
  OrtStatus* mutable_data(OrtValue* value, void** data) const {
    return call<OrtStatus*, OrtValue*, void**>(51, value, data);
  }
  OrtStatus* attribute(const OrtKernelInfo* info, const char* name, float* value) const {
    return call<OrtStatus*, const OrtKernelInfo*, const char*, float*>(85, info, name, value);
  }
  OrtStatus* attribute(const OrtKernelInfo* info, const char* name, int64_t* value) const {
    return call<OrtStatus*, const OrtKernelInfo*, const char*, int64_t*>(86, info, name, value);
  }
  // `size` is the room in `text`, its closing 0 included.
  OrtStatus* attribute(const OrtKernelInfo* info, const char* name, char* text, size_t* size) const {
    return call<OrtStatus*, const OrtKernelInfo*, const char*, char*, size_t*>(87, info, name, text, size);
  }
  OrtStatus* output_count(const OrtKernelContext* context, size_t* count) const {
    return call<OrtStatus*, const OrtKernelContext*, size_t*>(89, context, count);
  }
  OrtStatus* input(const OrtKernelContext* context, size_t index, const OrtValue** value) const {
    return call<OrtStatus*, const OrtKernelContext*, size_t, const OrtValue**>(90, context, index, value);
  }
  OrtStatus* output(OrtKernelContext* context, size_t index, const int64_t* shape, size_t count, OrtValue** value) const {
    return call<OrtStatus*, OrtKernelContext*, size_t, const int64_t*, size_t, OrtValue**>(91, context, index, shape,
                                                                                          count, value);
  }
  void release(OrtStatus* status) const { call<void, OrtStatus*>(93, status); }
  // Of version 24. The dimensions stay where they are: the tensor's own.
  OrtStatus* shape(const OrtValue* value, ElementType* type, const int64_t** sizes, size_t* count) const {
    return call<OrtStatus*, const OrtValue*, ElementType*, const int64_t**, size_t*>(414, value, type, sizes, count);
  }

 private:
  template <typename Result, typename... Arguments>
  Result call(size_t place, Arguments... arguments) const {
    return reinterpret_cast<Result (*)(Arguments...)>(table_[place])(arguments...);
  }

  const OrtApi* table_;
};

}  // namespace dragoman

// An operator as onnxruntime sees it: the layout is onnxruntime's. Null: not given.
struct OrtCustomOp {
  using ElementType = dragoman::ElementType;
  using Characteristic = dragoman::Characteristic;

  uint32_t version = dragoman::kInterfaceVersion;
  void* (*create_kernel)(const OrtCustomOp*, const OrtApi*, const OrtKernelInfo*) = nullptr;
  const char* (*name)(const OrtCustomOp*) = nullptr;
  const char* (*execution_provider)(const OrtCustomOp*) = nullptr;
  ElementType (*input_type)(const OrtCustomOp*, size_t) = nullptr;
  size_t (*input_count)(const OrtCustomOp*) = nullptr;
  ElementType (*output_type)(const OrtCustomOp*, size_t) = nullptr;
  size_t (*output_count)(const OrtCustomOp*) = nullptr;
  void (*compute)(void*, OrtKernelContext*) = nullptr;
  void (*destroy_kernel)(void*) = nullptr;
  Characteristic (*input_characteristic)(const OrtCustomOp*, size_t) = nullptr;
  Characteristic (*output_characteristic)(const OrtCustomOp*, size_t) = nullptr;
  int (*input_memory)(const OrtCustomOp*, size_t) = nullptr;
  int (*least_variadic_inputs)(const OrtCustomOp*) = nullptr;
  int (*homogeneous_variadic_inputs)(const OrtCustomOp*) = nullptr;
  int (*least_variadic_outputs)(const OrtCustomOp*) = nullptr;
  int (*homogeneous_variadic_outputs)(const OrtCustomOp*) = nullptr;
  OrtStatus* (*create_kernel_with_status)(const OrtCustomOp*, const OrtApi*, const OrtKernelInfo*, void**) = nullptr;
  OrtStatus* (*compute_with_status)(void*, OrtKernelContext*) = nullptr;
  void* of_later_versions[7] = {};
};
