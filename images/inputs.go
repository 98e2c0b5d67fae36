package images

import (
	"bytes"
	"context"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"

	"omega/kernel"
)

// Inputs are all that the measured artifacts were made from, each as "kind:name"
// with its digest, version or value. Two images that measure differently differ
// in one of them; `omega measure --diff` says in which. The kinds are those of
// the constants below.
type Inputs map[string]string

// The kinds of inputs, and "payload", which says what they became.
const (
	InputFile        = "file"               // a source file of ours: its SHA-256
	InputModule      = "module"             // PROGRAM:PATH of a Go module: version and go.sum's hash
	InputLanguage    = "language"           // of a module of ours: go.mod's go line
	InputCompiler    = "compiler"           // flags and settings of the Go compiler
	InputOption      = "kernel-option"      // a set option of the finished kernel configuration
	InputPatch       = "kernel-patch"       // its SHA-256
	InputEnvironment = "kernel-environment" // a variable that the kernel is built with
	InputTool        = "kernel-tool"        // a tool of the kernel's build: its version
	InputPayload     = "payload"            // a file of the initramfs: mode and SHA-256
)

// add notes one input.
func (in Inputs) add(kind, name, value string) { in[kind+":"+name] = value }

// collectInputs names the inputs of an image of profile p with these entries
// and the kernel in the folder kernelDir.
func collectInputs(ctx context.Context, p profile, o Options, entries []entry, kernelDir string) (Inputs, error) {
	in := Inputs{}
	in.payload(entries)
	for i, f := range goFlags {
		in.add(InputCompiler, fmt.Sprint("flag ", i+1), f)
	}
	for _, s := range goSettings {
		name, value, _ := strings.Cut(s, "=")
		in.add(InputCompiler, name, value)
	}
	if err := in.kernel(ctx, p, kernelDir); err != nil {
		return nil, fmt.Errorf("inputs: %w", err)
	}
	if err := in.programs(ctx, o.Source, entries); err != nil {
		return nil, fmt.Errorf("inputs: %w", err)
	}
	return in, nil
}

func (in Inputs) payload(entries []entry) {
	for _, e := range entries {
		what := e.from.kind
		switch {
		case what == "device":
			what = fmt.Sprintf("device %d:%d", e.from.major, e.from.minor)
		case what != "directory":
			sum := sha256.Sum256(e.content)
			what = hex.EncodeToString(sum[:])
		}
		in.add(InputPayload, "/"+e.path, fmt.Sprintf("%04o %s", e.mode, what))
	}
}

func (in Inputs) kernel(ctx context.Context, p profile, dir string) error {
	variant, err := kernel.Named(p.kernel)
	if err != nil {
		return err
	}
	recipe, err := kernel.Load(kernel.Files, variant.Fragments)
	if err != nil {
		return err
	}
	for _, patch := range recipe.Patches {
		sum := sha256.Sum256(patch.Diff)
		in.add(InputPatch, patch.Name, hex.EncodeToString(sum[:]))
	}
	for _, v := range kernelEnv {
		name, value, _ := strings.Cut(v, "=")
		in.add(InputEnvironment, name, value)
	}
	versions, err := toolVersions(ctx)
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(versions)) {
		name, version, _ := strings.Cut(strings.TrimSpace(line), ": ")
		in.add(InputTool, name, version)
	}
	config, err := os.ReadFile(filepath.Join(dir, configFile))
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(config)) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok && strings.HasPrefix(name, "CONFIG_") {
			in.add(InputOption, name, value)
		}
	}
	return nil
}

// programs adds what the Go programs among entries are compiled from: the
// files of our own packages, and the modules that the linker says it used.
func (in Inputs) programs(ctx context.Context, source string, entries []entry) error {
	var packages []string
	for _, e := range entries {
		switch e.from.kind {
		case "program":
			packages = append(packages, e.from.name)
		case "runsc":
			if err := in.module(source, runscModule, runscFiles); err != nil {
				return err
			}
		case "uroot":
			if err := in.module(source, debugModule, debugFiles); err != nil {
				return err
			}
		default:
			continue
		}
		info, err := buildinfo.Read(bytes.NewReader(e.content))
		if err != nil {
			return fmt.Errorf("/%s: %w", e.path, err)
		}
		for _, m := range info.Deps {
			if m.Replace != nil {
				return fmt.Errorf("/%s: module %s is replaced by another one", e.path, m.Path)
			}
			in.add(InputModule, "/"+e.path+":"+m.Path, moduleVersion(m))
		}
	}
	return in.files(ctx, source, packages)
}

// module adds the files of a small module of ours, beside the modules it uses.
func (in Inputs) module(source, module string, files []string) error {
	for _, name := range files {
		if err := in.file(source, filepath.Join(source, module, name)); err != nil {
			return err
		}
	}
	return nil
}

// file adds the file at path, which lies in the tree at source.
func (in Inputs) file(source, path string) error {
	rel, err := filepath.Rel(source, path)
	if err != nil || !filepath.IsLocal(rel) {
		return fmt.Errorf("%s is outside of the source tree", path)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(b)
	in.add(InputFile, filepath.ToSlash(rel), hex.EncodeToString(sum[:]))
	return nil
}

func moduleVersion(m *debug.Module) string { return m.Version + " " + m.Sum }

// A listedPackage is what `go list -json` says of a package.
type listedPackage struct {
	Dir                                 string
	GoFiles, SFiles, HFiles, EmbedFiles []string
	Module                              *struct {
		Main            bool
		Path, GoVersion string
	}
}

// files adds every file that the packages are compiled from, as far as it lies
// in our own tree.
func (in Inputs) files(ctx context.Context, source string, packages []string) error {
	list, err := listPackages(ctx, source, packages)
	if err != nil {
		return err
	}
	for _, p := range list {
		if p.Module == nil || !p.Module.Main {
			continue
		}
		in.add(InputLanguage, p.Module.Path, p.Module.GoVersion)
		for _, name := range slices.Concat(p.GoFiles, p.SFiles, p.HFiles, p.EmbedFiles) {
			if err := in.file(source, filepath.Join(p.Dir, name)); err != nil {
				return err
			}
		}
	}
	return nil
}

// listPackages asks go which packages the given ones consist of.
func listPackages(ctx context.Context, dir string, packages []string) ([]listedPackage, error) {
	args := append([]string{"list", "-mod=readonly", "-deps", "-json=Dir,GoFiles,SFiles,HFiles,EmbedFiles,Module"}, packages...)
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), goSettings...)
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list in %s: %w\n%s", dir, err, said.Bytes())
	}
	var list []listedPackage
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listedPackage
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return list, nil
		} else if err != nil {
			return nil, fmt.Errorf("go list in %s: %w", dir, err)
		}
		list = append(list, p)
	}
}
