/* A plugin for QEMU's user mode: how many instructions does a thread execute between two marks?
 *
 *   cc -shared -fPIC -O2 -DQEMU_PLUGIN_API=1 count_instructions.c -o count_instructions.so
 *   qemu-aarch64 -plugin ./count_instructions.so,out=counts.txt PROGRAM
 *
 * The program marks a point by getpgid(0x7e570000 + n), a system call that does nothing else.
 * Each mark adds a line to the file:
 *
 *   n  instructions of the marking thread so far  instructions of all threads so far
 *
 * A translated block adds its length when it starts; a system call ends its block, so that the
 * counts at a mark are exact. Each thread counts for itself and no atomic operation is needed.
 *
 * The declarations are our own, of the parts of QEMU's plugin interface (its documentation, "QEMU
 * TCG Plugins") that are used here. They are the same from API 0 (QEMU 4.2) to 5 (QEMU 10.2);
 * QEMU 9 and later refuse a plugin that calls itself older than 2, earlier ones a newer than 1.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#ifndef QEMU_PLUGIN_API
#define QEMU_PLUGIN_API 1
#endif
#define EXPORT __attribute__((visibility("default")))

typedef uint64_t plugin_id;
struct qemu_plugin_tb;
typedef void (*block_callback)(plugin_id id, struct qemu_plugin_tb *block);
typedef void (*run_callback)(unsigned int thread, void *data);
typedef void (*syscall_callback)(plugin_id id, unsigned int thread, int64_t number, uint64_t a1,
                                 uint64_t a2, uint64_t a3, uint64_t a4, uint64_t a5, uint64_t a6,
                                 uint64_t a7, uint64_t a8);
enum { NO_REGISTERS = 0 };
extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *block);
extern void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id id, block_callback callback);
extern void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *block,
                                                 run_callback callback, int flags, void *data);
extern void qemu_plugin_register_vcpu_syscall_cb(plugin_id id, syscall_callback callback);

EXPORT int qemu_plugin_version = QEMU_PLUGIN_API;

enum { GETPGID = 155, MARK = 0x7e570000, THREADS = 1024 };

/* A cache line each; a thread beyond the last shares its line, and the count is then not exact. */
static struct {
  uint64_t instructions;
  char pad[64 - sizeof(uint64_t)];
} counts[THREADS];
static FILE *out;

static void on_run(unsigned int thread, void *length) {
  counts[thread % THREADS].instructions += (uintptr_t)length;
}

static void on_translation(plugin_id id, struct qemu_plugin_tb *block) {
  (void)id;
  qemu_plugin_register_vcpu_tb_exec_cb(block, on_run, NO_REGISTERS,
                                       (void *)(uintptr_t)qemu_plugin_tb_n_insns(block));
}

static void on_syscall(plugin_id id, unsigned int thread, int64_t number, uint64_t a1, uint64_t a2,
                       uint64_t a3, uint64_t a4, uint64_t a5, uint64_t a6, uint64_t a7,
                       uint64_t a8) {
  (void)id, (void)a2, (void)a3, (void)a4, (void)a5, (void)a6, (void)a7, (void)a8;
  if (number != GETPGID || (a1 & 0xffff0000) != MARK) return;
  uint64_t all = 0;
  for (int i = 0; i < THREADS; i++) all += counts[i].instructions;
  fprintf(out, "%d %llu %llu\n", (int)(a1 & 0xffff),
          (unsigned long long)counts[thread % THREADS].instructions, (unsigned long long)all);
  fflush(out);
}

EXPORT int qemu_plugin_install(plugin_id id, const void *info, int argc, char **argv) {
  (void)info;
  for (int i = 0; i < argc; i++)
    if (!strncmp(argv[i], "out=", 4)) out = fopen(argv[i] + 4, "w");
  if (!out) {
    fprintf(stderr, "count_instructions: out=FILE is missing or cannot be written\n");
    return 1;
  }
  qemu_plugin_register_vcpu_tb_trans_cb(id, on_translation);
  qemu_plugin_register_vcpu_syscall_cb(id, on_syscall);
  return 0;
}
