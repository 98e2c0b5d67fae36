// A stand-in for NVIDIA's libnvidia-ml.so.1, as far as the guest uses it. What it
// says is in files below $FAKE_NVML, so that a test writes them:
//
//	system        one line: GPUs, CPU caps, GPU caps, environment, feature, devtools, multi-GPU
//	chain-N       the certificate chain of GPU N
//	report-N-HEX  its report for the nonce HEX; without it the GPU refuses
//	misbehave     one word: crash, hang, socket, exec, long
//
// The driver gives a GPU up after a report that failed; this does too.
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "nvml.h"

static unsigned int ready, latched;

static FILE *file(const char *format, long gpu, const char *hex) {
	char name[96], path[512];
	snprintf(name, sizeof name, format, gpu, hex);
	const char *dir = getenv("FAKE_NVML");
	if (!dir)
		return NULL;
	snprintf(path, sizeof path, "%s/%s", dir, name);
	return fopen(path, "rb");
}

static int settings(unsigned int v[7]) {
	FILE *f = file("system", 0, "");
	if (!f)
		return 0;
	int n = fscanf(f, "%u %u %u %u %u %u %u", &v[0], &v[1], &v[2], &v[3], &v[4], &v[5], &v[6]);
	fclose(f);
	return n == 7;
}

// misbehave does what the file says; what it could do is worth an exit of its own.
static int misbehave(const char *how) {
	char word[16] = "";
	FILE *f = file("misbehave", 0, "");
	if (!f)
		return 0;
	if (fscanf(f, "%15s", word) != 1)
		word[0] = 0;
	fclose(f);
	return !strcmp(word, how);
}

nvmlReturn_t nvmlInit_v2(void) { return NVML_SUCCESS; }
nvmlReturn_t nvmlShutdown(void) { return NVML_SUCCESS; }
const char *nvmlErrorString(nvmlReturn_t r) { return r == NVML_ERROR_INVALID_ARGUMENT ? "Invalid Argument" : "fake error"; }

nvmlReturn_t nvmlSystemGetDriverVersion(char *version, unsigned int length) {
	if (misbehave("crash"))
		abort();
	if (misbehave("hang"))
		for (;;)
			pause();
	if (misbehave("socket"))
		snprintf(version, length, "socket %s", socket(AF_INET, SOCK_STREAM, 0) < 0 && errno == EPERM ? "refused" : "made");
	else if (misbehave("exec"))
		snprintf(version, length, "exec %s", execl("/bin/true", "true", NULL) < 0 && errno == EPERM ? "refused" : "done");
	else
		snprintf(version, length, "550.90.07");
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetCount_v2(unsigned int *count) {
	unsigned int v[7];
	if (!settings(v))
		return NVML_ERROR_DRIVER_NOT_LOADED;
	*count = v[0];
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned int index, nvmlDevice_t *device) {
	unsigned int v[7];
	if (!settings(v) || index >= v[0])
		return NVML_ERROR_INVALID_ARGUMENT;
	device->handle = (void *)(uintptr_t)(index + 1);
	return NVML_SUCCESS;
}

#ifndef OLD_LIBRARY
nvmlReturn_t nvmlSystemGetConfComputeCapabilities(nvmlConfComputeSystemCaps_t *caps) {
	unsigned int v[7];
	if (!settings(v))
		return NVML_ERROR_DRIVER_NOT_LOADED;
	caps->cpuCaps = v[1];
	caps->gpusCaps = v[2];
	return NVML_SUCCESS;
}
#endif

nvmlReturn_t nvmlSystemGetConfComputeSettings(nvmlSystemConfComputeSettings_t *s) {
	unsigned int v[7];
	if (!settings(v) || s->version != nvmlSystemConfComputeSettings_v1)
		return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
	s->environment = v[3];
	s->ccFeature = v[4];
	s->devToolsMode = v[5];
	s->multiGpuMode = v[6];
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlSystemGetConfComputeGpusReadyState(unsigned int *on) {
	*on = ready;
	return NVML_SUCCESS;
}

// Back to not ready is for good, until the GPU is reset.
nvmlReturn_t nvmlSystemSetConfComputeGpusReadyState(unsigned int on) {
	if (on && latched)
		return NVML_ERROR_INVALID_ARGUMENT;
	latched |= ready && !on;
	ready = on;
	return NVML_SUCCESS;
}

static unsigned int fill(FILE *f, unsigned char *to, size_t size) {
	if (!f)
		return 0;
	size_t n = fread(to, 1, size, f);
	fclose(f);
	return n;
}

nvmlReturn_t nvmlDeviceGetConfComputeGpuCertificate(nvmlDevice_t device, nvmlConfComputeGpuCertificate_t *c) {
	FILE *f = file("chain-%ld", (long)(uintptr_t)device.handle - 1, "");
	c->attestationCertChainSize = fill(f, c->attestationCertChain, sizeof c->attestationCertChain);
	if (misbehave("long"))
		c->attestationCertChainSize = 1 << 30;
	return f ? NVML_SUCCESS : NVML_ERROR_NOT_SUPPORTED;
}

nvmlReturn_t nvmlDeviceGetConfComputeGpuAttestationReport(nvmlDevice_t device, nvmlConfComputeGpuAttestationReport_t *r) {
	char hex[2 * sizeof r->nonce + 1];
	for (size_t i = 0; i < sizeof r->nonce; i++)
		snprintf(hex + 2 * i, 3, "%02x", r->nonce[i]);
	FILE *f = latched ? NULL : file("report-%ld-%s", (long)(uintptr_t)device.handle - 1, hex);
	r->attestationReportSize = fill(f, r->attestationReport, sizeof r->attestationReport);
	if (!f) {
		ready = 0;
		latched = 1;
		return NVML_ERROR_UNKNOWN;
	}
	return NVML_SUCCESS;
}
