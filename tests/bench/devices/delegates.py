"""A small delegate of our own, from C: LiteRT hands it nodes as it does to one of a phone's maker."""

import shutil
import subprocess

from tests.bench.devices import daemons

# The heads of LiteRT's structures, as its c/common.h has them.
DELEGATE = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
typedef struct { int size, data[]; } Ints;
typedef struct Context Context;
typedef struct Delegate Delegate;
typedef struct {
  void *(*init)(Context *, const char *, size_t);
  void (*release)(Context *, void *);
  int (*prepare)(Context *, void *), (*invoke)(Context *, void *);
  void *profile;
  int code;
  const char *name;
  int version;
  void *more[8];
} Kernel;
struct Context {
  size_t tensors;
  int (*plan)(Context *, Ints **);
  void *more[6];
  int (*replace)(Context *, Kernel, const Ints *, Delegate *);
};
struct Delegate {
  void *data; int (*prepare)(Context *, Delegate *); void *more[3]; long flags; void *opaque;
};
static int nothing(Context *context, void *node) { return 0; }
static int prepare(Context *context, Delegate *delegate) {
  Dl_info here;
  FILE *file = fopen("%(used)s", "w");
  if (dladdr((void *)prepare, &here)) fputs(here.dli_fname, file);
  fclose(file);
  Ints *plan;
  Kernel kernel = {.prepare = nothing, .invoke = nothing, .name = "ours", .version = 1};
  if (context->plan(context, &plan)) return 1;
  Ints *taken = calloc(1 + plan->size, sizeof(int));
  for (; taken->size < plan->size && taken->size < %(nodes)d; taken->size++)
    taken->data[taken->size] = plan->data[taken->size];
  int failed = taken->size && context->replace(context, kernel, taken, delegate);
  free(taken);
  return failed;
}
void *tflite_plugin_create_delegate(char **k, char **v, size_t n, void (*e)(const char *)) {
  Delegate *d = calloc(1, sizeof *d);
  d->prepare = prepare;
  return d;
}
void tflite_plugin_destroy_delegate(void *d) { free(d); }
"""


def make(folder, nodes):
    """A delegate that takes the first nodes, computes nothing, and writes from where it was loaded."""
    if not shutil.which("cc"):
        daemons.missing("there is no C compiler to make a delegate with")
    library = folder / f"libdelegate{nodes}.so"
    source = folder / "delegate.c"
    source.write_text(DELEGATE % {"nodes": nodes, "used": f"{library}.used"})
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)
    return library
