/* A plugin of QEMU that counts the instructions which a program executes. */
#include "qemu_plugin.h"

typedef void (*on_exit)(qemu_plugin_id_t, void *);

void qemu_plugin_register_atexit_cb(qemu_plugin_id_t id, on_exit call, void *user);

static void finished(qemu_plugin_id_t id, void *user)
{
    char line[64];
    (void)id;
    (void)user;
    snprintf(line, sizeof line, "instructions %" PRIu64 "\n", count);
    qemu_plugin_outs(line);
}

int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info, int argc, char **argv)
{
    (void)info;
    (void)argc;
    (void)argv;
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_atexit_cb(id, finished, NULL);
    return 0;
}
