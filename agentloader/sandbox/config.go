package sandbox

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

// The parts of an OCI runtime configuration that are used (runtime-spec 1.2, config.md).
type (
	ociConfig struct {
		Version     string            `json:"ociVersion"`
		Process     ociProcess        `json:"process"`
		Root        ociRoot           `json:"root"`
		Hostname    string            `json:"hostname"`
		Mounts      []ociMount        `json:"mounts"`
		Linux       ociLinux          `json:"linux"`
		Annotations map[string]string `json:"annotations"`
	}
	ociProcess struct {
		User            ociUser             `json:"user"`
		Args            []string            `json:"args"`
		Env             []string            `json:"env"`
		Cwd             string              `json:"cwd"`
		Capabilities    map[string][]string `json:"capabilities"`
		Rlimits         []ociRlimit         `json:"rlimits"`
		NoNewPrivileges bool                `json:"noNewPrivileges"`
		OOMScoreAdj     int                 `json:"oomScoreAdj"`
	}
	ociUser struct {
		UID uint32 `json:"uid"`
		GID uint32 `json:"gid"`
	}
	ociRlimit struct {
		Type string `json:"type"`
		Hard uint64 `json:"hard"`
		Soft uint64 `json:"soft"`
	}
	ociRoot struct {
		Path     string `json:"path"`
		Readonly bool   `json:"readonly"`
	}
	ociMount struct {
		Destination string   `json:"destination"`
		Type        string   `json:"type"`
		Source      string   `json:"source"`
		Options     []string `json:"options,omitempty"`
	}
	ociLinux struct {
		Namespaces []ociNamespace `json:"namespaces"`
	}
	ociNamespace struct {
		Type string `json:"type"`
	}
)

// agentID is the user and group of every agent, inside its sandbox.
const agentID = 1000

// shimTasks are the shim's own threads, which count with the agent's (getrlimit(2), RLIMIT_NPROC).
const shimTasks = 32

// oomScore makes the kernel take agents first when memory runs out (proc(5), oom_score_adj). Without it a
// sandbox inherits the protection of the process that starts it.
const oomScore = 500

// shimPath is where the loader puts the shim.
const shimPath = "/.omega/shim"

// rootAnnotation tells runsc to serve the root from an EROFS image (gVisor, runsc/boot/mount_hints.go).
const rootAnnotation = "dev.gvisor.spec.rootfs."

// writeBundle writes the OCI runtime bundle of a sandbox.
func writeBundle(dir string, spec Spec) error {
	// The root directory stays empty: runsc wants a path, the image comes by annotation.
	if err := os.MkdirAll(filepath.Join(dir, "root"), 0o700); err != nil {
		return fmt.Errorf("runtime bundle: %w", err)
	}
	b, err := json.Marshal(runtimeConfig(spec))
	if err != nil {
		return fmt.Errorf("runtime bundle: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), b, 0o600); err != nil {
		return fmt.Errorf("runtime bundle: %w", err)
	}
	return nil
}

func runtimeConfig(spec Spec) ociConfig {
	limits := spec.Limits.withDefaults()
	cwd := spec.Dir
	if cwd == "" {
		cwd = "/"
	}
	return ociConfig{
		Version: "1.2.0",
		Process: ociProcess{
			User: ociUser{agentID, agentID},
			Args: append([]string{shimPath, "--"}, spec.Command...),
			Env:  append(append([]string(nil), spec.Env...), spec.forShim()...),
			Cwd:  cwd,
			Capabilities: map[string][]string{
				"bounding": {}, "effective": {}, "inheritable": {}, "permitted": {}, "ambient": {},
			},
			Rlimits: []ociRlimit{
				{"RLIMIT_NOFILE", 4096, 4096},
				{"RLIMIT_NPROC", uint64(limits.Processes + shimTasks), uint64(limits.Processes + shimTasks)},
				{"RLIMIT_CORE", 0, 0},
			},
			NoNewPrivileges: true,
			OOMScoreAdj:     oomScore,
		},
		Root:     ociRoot{Path: "root", Readonly: true},
		Hostname: spec.Hostname,
		Mounts: append([]ociMount{
			{"/proc", "proc", "proc", []string{"nosuid", "noexec", "nodev"}},
			{"/dev", "tmpfs", "tmpfs", []string{"nosuid", "mode=755"}},
			{"/sys", "sysfs", "sysfs", []string{"nosuid", "noexec", "nodev", "ro"}},
			{"/tmp", "tmpfs", "tmpfs", []string{"nosuid", "nodev", "mode=1777", fmt.Sprintf("size=%d", limits.MemoryBytes/2)}},
		}, spec.fileMounts()...),
		Linux: ociLinux{Namespaces: []ociNamespace{{"pid"}, {"network"}, {"ipc"}, {"uts"}, {"mount"}}},
		Annotations: map[string]string{
			rootAnnotation + "source": spec.Image,
			rootAnnotation + "type":   "erofs",
			// Writes to the root are refused (readonly), but runsc wants to be told how to overlay it.
			rootAnnotation + "overlay": "memory",
		},
	}
}
