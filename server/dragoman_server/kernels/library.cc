// Operators that stand in for onnxruntime's own in encoders and decoders' steps: same names, inputs, outputs and meaning.
//
// onnxruntime looks among registered operators before its own, so a graph needs no change. Each operator takes what
// a bundle's graphs hold, and refuses any other node when the session is made.
#include "attention_operators.h"
#include "choice_operators.h"
#include "instruction_sets.h"
#include "normalization_operator.h"
#include "operator.h"
#include "product_operator.h"
#include "products.h"

namespace dragoman {
namespace {

// Sessions refer to it for as long as they live, so it is never released.
OrtCustomOpDomain* made_domain(const Api& api, const char* name, std::initializer_list<const OrtCustomOp*> operators) {
  OrtCustomOpDomain* domain = nullptr;
  check(api.create_domain(name, &domain));
  for (const OrtCustomOp* op : operators) check(api.add_operator(domain, op));
  return domain;
}

// Adds the operators of all domains; each domain is made once for all sessions.
void add_domains(const Api& api, OrtSessionOptions* options) {
  static const Registered<GroupQueryAttention> attention;
  static const Registered<MultiHeadAttention> text_attention;
  static const Registered<MatMulIntegerToFloat> product;
  static const Registered<LayerNormalization> normalization;
  static const Registered<LogSoftmax> log_softmax;
  static const Registered<TopK> top_k;
  static OrtCustomOpDomain* const contributed =
      has_products() ? made_domain(api, "com.microsoft", {&attention, &text_attention, &product})
                     : made_domain(api, "com.microsoft", {&attention, &text_attention});
  static OrtCustomOpDomain* const standard = made_domain(api, "", {&normalization, &log_softmax, &top_k});
  check(api.add_domain(options, contributed));
  check(api.add_domain(options, standard));
}

}  // namespace
}  // namespace dragoman

// What SessionOptions.register_custom_ops_library calls.
extern "C" __attribute__((visibility("default"))) OrtStatus* RegisterCustomOps(OrtSessionOptions* options,
                                                                               const OrtApiBase* base) {
  using namespace dragoman;
  const Api api(base->get_api(kInterfaceVersion));
  if (chosen_kernels() == nullptr) return api.create_status(ErrorCode::kNotImplemented, "no such instruction set");
  try {
    add_domains(api, options);
  } catch (const Passed& passed) {
    return passed.status;
  }
  return nullptr;
}

// The instruction set of the kernels on this processor.
extern "C" __attribute__((visibility("default"))) const char* dragoman_instruction_set() {
  const dragoman::Kernels* kernels = dragoman::chosen_kernels();
  return kernels == nullptr ? "" : kernels->name;
}
