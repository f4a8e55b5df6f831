// llama.cpp as a yardstick: reads a prompt of given ids, continues it greedily, one thread, and says how long each took. Links nothing at build
// time: the libraries are the prebuilt ones that node-llama-cpp ships, opened from a directory, with the CPU backend that is named (haswell: AVX2)
// or with the one that llama.cpp finds best. Of its header only the functions used are declared here; parameter structures are opaque blocks that
// llama.cpp fills itself, of which no more is touched than the first four numbers, which are checked to be what they are taken for.
//
//   llama DIRECTORY BACKEND|best MODEL CONTEXT
//
// Standard input: lines `DRAWN COUNT ID…`. Each is answered by a line of JSON: seconds until the prompt's logits were there, seconds that the
// DRAWN − 1 tokens after the first took, and the ids drawn.

#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/** Larger than any parameter structure: passed by value it lies on the stack, where what a callee does not know does not matter. */
typedef struct { uint32_t u[256]; } Params;
/** llama_batch, unchanged since 2023: a number and six pointers. */
typedef struct { int32_t tokens; void *pointers[6]; } Batch;

#define FUNCTIONS(X)                                                                                                               \
  X(void, llama_backend_init, (void))                                                                                              \
  X(void, llama_log_set, (void (*)(int, const char *, void *), void *))                                                            \
  X(Params, llama_model_default_params, (void))                                                                                    \
  X(void *, llama_model_load_from_file, (const char *, Params))                                                                    \
  X(Params, llama_context_default_params, (void))                                                                                  \
  X(void *, llama_init_from_model, (void *, Params))                                                                               \
  X(void, llama_set_n_threads, (void *, int32_t, int32_t))                                                                         \
  X(int32_t, llama_n_threads, (void *))                                                                                            \
  X(int32_t, llama_n_threads_batch, (void *))                                                                                      \
  X(uint32_t, llama_n_ctx, (const void *))                                                                                         \
  X(uint32_t, llama_n_batch, (const void *))                                                                                       \
  X(uint32_t, llama_n_ubatch, (const void *))                                                                                      \
  X(const void *, llama_model_get_vocab, (const void *))                                                                           \
  X(int32_t, llama_vocab_n_tokens, (const void *))                                                                                 \
  X(void *, llama_get_memory, (const void *))                                                                                      \
  X(void, llama_memory_clear, (void *, _Bool))                                                                                     \
  X(Batch, llama_batch_get_one, (int32_t *, int32_t))                                                                              \
  X(int32_t, llama_decode, (void *, Batch))                                                                                        \
  X(float *, llama_get_logits_ith, (void *, int32_t))
#define GGML_FUNCTIONS(X)                                                                                                          \
  X(void *, ggml_backend_load, (const char *))                                                                                     \
  X(void, ggml_backend_load_all_from_path, (const char *))                                                                         \
  X(size_t, ggml_backend_reg_count, (void))

#define DECLARE(result, name, arguments) static result(*name) arguments;
FUNCTIONS(DECLARE)
GGML_FUNCTIONS(DECLARE)

static void fail(const char *what, const char *why) {
  fprintf(stderr, "%s: %s\n", what, why);
  exit(1);
}

static void quiet(int level, const char *text, void *data) { (void)level, (void)text, (void)data; }

static void *library(const char *directory, const char *name) {
  char path[4096];
  snprintf(path, sizeof path, "%s/%s", directory, name);
  void *opened = dlopen(path, RTLD_NOW | RTLD_GLOBAL);
  if (opened == NULL) fail(name, dlerror());
  return opened;
}

static void *symbol(void *from, const char *name) {
  void *found = dlsym(from, name);
  if (found == NULL) fail(name, "no such function");
  return found;
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/** LIBLLAMA and LIBGGML: file names, which carry a version. */
static void bind(const char *directory) {
  void *ggml = library(directory, LIBGGML);
  void *llama = library(directory, LIBLLAMA);
#define BIND_GGML(result, name, arguments) *(void **)&name = symbol(ggml, #name);
#define BIND(result, name, arguments) *(void **)&name = symbol(llama, #name);
  GGML_FUNCTIONS(BIND_GGML)
  FUNCTIONS(BIND)
}

static void *contextOf(void *model, uint32_t positions) {
  Params p = llama_context_default_params();
  // n_ctx, n_batch, n_ubatch, n_seq_max
  if (p.u[1] != 2048 || p.u[2] != 512 || p.u[3] != 1) fail("llama.cpp", "its parameters are not laid out as this program takes them to be");
  p.u[0] = positions;
  p.u[1] = p.u[2] = positions;
  void *context = llama_init_from_model(model, p);
  if (context == NULL) fail("llama.cpp", "no context");
  llama_set_n_threads(context, 1, 1);
  if (llama_n_ctx(context) != positions || llama_n_batch(context) != positions || llama_n_ubatch(context) != positions)
    fail("llama.cpp", "its context is not as asked for");
  if (llama_n_threads(context) != 1 || llama_n_threads_batch(context) != 1) fail("llama.cpp", "more than one thread");
  return context;
}

static int32_t greedy(void *context, int32_t vocabulary) {
  const float *logits = llama_get_logits_ith(context, -1);
  int32_t best = 0;
  for (int32_t i = 1; i < vocabulary; i++)
    if (logits[i] > logits[best]) best = i;
  return best;
}

static void pass(void *context, int32_t *ids, int32_t count) {
  if (llama_decode(context, llama_batch_get_one(ids, count)) != 0) fail("llama.cpp", "a pass failed");
}

int main(int argc, char **argv) {
  if (argc != 5) fail("usage", "llama DIRECTORY BACKEND|best MODEL CONTEXT");
  const char *directory = argv[1], *backend = argv[2];
  bind(directory);
  llama_log_set(quiet, NULL);
  if (strcmp(backend, "best") == 0) ggml_backend_load_all_from_path(directory);
  else {
    char path[4096];
    snprintf(path, sizeof path, "%s/libggml-cpu-%s.so", directory, backend);
    if (ggml_backend_load(path) == NULL) fail(backend, "this processor does not run that backend");
  }
  if (ggml_backend_reg_count() != 1) fail("llama.cpp", "not one backend");
  llama_backend_init();
  void *model = llama_model_load_from_file(argv[3], llama_model_default_params());
  if (model == NULL) fail(argv[3], "cannot be loaded");
  void *context = contextOf(model, (uint32_t)atoi(argv[4]));
  const int32_t vocabulary = llama_vocab_n_tokens(llama_model_get_vocab(model));
  printf("{\"ready\":true}\n");
  fflush(stdout);

  int32_t drawn, count;
  while (scanf("%d %d", &drawn, &count) == 2) {
    int32_t *ids = malloc((size_t)(count + drawn) * sizeof *ids);
    for (int32_t i = 0; i < count; i++)
      if (scanf("%d", &ids[i]) != 1) fail("input", "an id is missing");
    int32_t *out = ids + count;
    llama_memory_clear(llama_get_memory(context), 1);
    const double start = now();
    pass(context, ids, count);
    out[0] = greedy(context, vocabulary);
    const double middle = now();
    for (int32_t i = 1; i < drawn; i++) {
      pass(context, &out[i - 1], 1);
      out[i] = greedy(context, vocabulary);
    }
    const double end = now();
    printf("{\"prefill\":%.9f,\"decode\":%.9f,\"ids\":[", middle - start, end - middle);
    for (int32_t i = 0; i < drawn; i++) printf(i == 0 ? "%d" : ",%d", out[i]);
    printf("]}\n");
    fflush(stdout);
    free(ids);
  }
  return 0;
}
