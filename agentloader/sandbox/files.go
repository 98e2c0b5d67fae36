package sandbox

import "path"

// A File is one that an agent can read beside its image, and only read: a model, an adapter, a data set.
type File struct {
	Path   string `json:"path"`             // inside the sandbox: a folder that every image has, and a name
	Source string `json:"source"`           // a regular file outside
	Device string `json:"device,omitempty"` // major:minor of the block device that it is read from; empty if it lies in memory
}

// fileMounts are the mounts of the files. They cost the sandbox a process (runsc's gofer, about 6 MiB),
// which sandboxes without such files go without. A block that cannot be read is an I/O error for the agent.
func (s Spec) fileMounts() []ociMount {
	var out []ociMount
	made := map[string]bool{}
	for _, f := range s.Files {
		// The image is read-only and shared with agents that have other files: their mount points lie in a
		// tmpfs that the agent may not write.
		if dir := path.Dir(f.Path); !made[dir] {
			made[dir] = true
			out = append(out, ociMount{dir, "tmpfs", "tmpfs", []string{"nosuid", "nodev", "noexec", "mode=755", "size=4096"}})
		}
		out = append(out, ociMount{f.Path, "bind", f.Source, []string{"bind", "ro", "nosuid", "nodev", "noexec"}})
	}
	return out
}
