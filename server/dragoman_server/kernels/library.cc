// The operators that onnxruntime is given.
//
// Those of domains that onnxruntime has operators for have the same names, inputs, outputs and meaning: it looks among
// registered ones before its own, so a graph needs no change. Those of the domain "dragoman" stand for nodes, most
// for several, in graphs that dragoman_server.fusing has made of a bundle's.
#include "attention_operators.h"
#include "chain_operator.h"
#include "choice_operator.h"
#include "embedding_operator.h"
#include "instruction_sets.h"
#include "normalization_operator.h"
#include "operator.h"
#include "source_attention_operator.h"

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
  static const Registered<LayerNormalization> normalization;
  static const Registered<PackedAttention> packed_attention;
  static const Registered<SourceAttention> source_attention;
  static const Registered<ChainOperator> chain;
  static const Registered<Best> best;
  static const Registered<Embedding> embedding;
  static const Registered<Candidates> candidates;
  static OrtCustomOpDomain* const contributed = made_domain(api, "com.microsoft", {&attention});
  static OrtCustomOpDomain* const standard = made_domain(api, "", {&normalization});
  static OrtCustomOpDomain* const fused =
      made_domain(api, "dragoman", {&packed_attention, &source_attention, &chain, &best, &candidates, &embedding});
  check(api.add_domain(options, contributed));
  check(api.add_domain(options, standard));
  check(api.add_domain(options, fused));
}

}  // namespace
}  // namespace dragoman

// What SessionOptions.register_custom_ops_library calls.
extern "C" __attribute__((visibility("default"))) OrtStatus* RegisterCustomOps(OrtSessionOptions* options,
                                                                               const OrtApiBase* base) {
  using namespace dragoman;
  const Api api(base->get_api(kInterfaceVersion));
  if (base->get_api(kLeastVersion) == nullptr) return api.create_status(ErrorCode::kNotImplemented, "onnxruntime is too old");
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
