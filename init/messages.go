package main

import (
	"encoding/json"
	"time"

	"omega/agentloader/bundle"
	"omega/attest"
	"omega/policy/provenance"
)

// The messages of every channel, by client -> server and operation. Both ends
// are this binary, and still each end decodes strictly: a child that was taken
// over can send only what stands here.

// Operations. The name is used on the channel named in the comment.
const (
	opStart       = "start"       // pid1 -> every child but config, once
	opParse       = "parse"       // pid1 -> config
	opLease       = "lease"       // pid1 -> config, one file: a UDP socket
	opHostData    = "host_data"   // pid1 -> signer
	opBootClaims  = "boot.claims" // pid1 -> signer
	opClaims      = "claims"      // pid1 -> signer, once the front's keys are known
	opReady       = "ready"       // pid1 -> front
	opDeploy      = "deploy"      // pid1 -> fetcher
	opExits       = "exits"       // pid1 -> sandboxd
	opSign        = "sign"        // log -> signer
	opEvidence    = "evidence"    // front -> signer
	opFrontKeys   = "keys"        // front -> signer, once
	opCertificate = "certificate" // front -> signer
	opAdmit       = "admit"       // sandboxd -> signer
	opState       = "state"       // sandboxd -> signer
	opInvocation  = "invocation"  // gateway -> signer
	opAppend      = "append"      // pid1, gateway, fetcher, sandboxd -> log
	opRead        = "read"        // front -> log
	opRun         = "run"         // fetcher -> sandboxd
	opLink        = "link"        // sandboxd -> gateway, one or two files: the sandbox's link, and the inbound one
)

// parseRequest hands the launch config's bytes to the config child.
type parseRequest struct {
	Config []byte `json:"config"`
}

// launchConfig is the launch config as a strict struct: what PID 1 acts on.
type launchConfig struct {
	DHCP        bool              `json:"dhcp"`
	Mirror      string            `json:"mirror"`                // base URL of a registry mirror, or empty
	Dial        map[string]string `json:"dial"`                  // "host:port" -> "ip:port"
	Deployments []json.RawMessage `json:"deployments"`           // DSSE envelopes, still foreign
	Revocations json.RawMessage   `json:"revocations,omitempty"` // a DSSE envelope, or nothing
	Releases    []json.RawMessage `json:"releases"`              // DSSE envelopes, still foreign
}

// leaseRequest asks for a DHCP lease over the socket beside it.
type leaseRequest struct {
	MAC []byte `json:"mac"`
}

// lease is what DHCP gave, in forms that netlink takes. Addresses are text
// that netip accepts.
type lease struct {
	Address string `json:"address"` // with prefix length
	Router  string `json:"router"`  // may be empty
}

// signerStart goes with one file: the report device, open.
type signerStart struct {
	BootID attest.Bytes16 `json:"boot_id"`
	Device string         `json:"device"` // deviceSNP or devicePSP
}

// The report devices.
const (
	deviceSNP = "snp" // /dev/sev-guest
	devicePSP = "psp" // the emulated PSP's virtio port
)

// signerStarted answers signerStart.
type signerStarted struct {
	AttestationKey attest.Bytes32 `json:"attestation_key"`
	LogKey         attest.Bytes32 `json:"log_key"`
	LogOrigin      string         `json:"log_origin"`
}

// hostData answers opHostData (no request body).
type hostData struct {
	HostData attest.Bytes32 `json:"host_data"`
}

// bootClaims completes the boot claims; the signer adds its keys and the front's,
// and answers opClaims with the whole.
type bootClaims struct {
	Claims attest.BootClaims    `json:"claims"`
	GPU    []attest.GPUEvidence `json:"gpu,omitempty"` // what the claims' digest stands for
}

// logStart goes with one file, the log disk, if there is one.
type logStart struct {
	Origin       string         `json:"origin"`
	LogKey       attest.Bytes32 `json:"log_key"`
	PolicyDigest attest.Bytes32 `json:"policy_digest"`
	Disk         bool           `json:"disk"`
}

// frontStart goes with one file: the listening socket. Releases are signed
// manifests of peers, still foreign.
type frontStart struct {
	Releases []json.RawMessage `json:"releases"`
}

// gatewayStart configures the gateway; it reads the measured policy itself.
type gatewayStart struct {
	BootID       attest.Bytes16    `json:"boot_id"`
	PolicyDigest attest.Bytes32    `json:"policy_digest"`
	Dial         map[string]string `json:"dial"`
}

// fetcherStart configures the fetcher; it reads the measured policy itself. One
// file goes with it where there is a layout disk: that disk.
type fetcherStart struct {
	Revocations  json.RawMessage   `json:"revocations,omitempty"` // as the launch config has it
	PolicyDigest attest.Bytes32    `json:"policy_digest"`
	BootID       attest.Bytes16    `json:"boot_id"`
	Mirror       string            `json:"mirror"`
	Dial         map[string]string `json:"dial"`
}

// sandboxdStart configures sandboxd.
type sandboxdStart struct {
	PolicyDigest attest.Bytes32 `json:"policy_digest"`
	Cgroup       string         `json:"cgroup"` // of the sandboxes; empty: no limits, in `omega dev` alone
}

// deployRequest is one deployment, still foreign bytes.
type deployRequest struct {
	Deployment json.RawMessage `json:"deployment"`
}

// deployReply says what became of a deployment. A refusal is an answer, not an
// error: the platform stays up.
type deployReply struct {
	Instance string `json:"instance"` // empty if the deployment did not even name one
	Started  bool   `json:"started"`
	Reason   string `json:"reason,omitempty"` // why not
}

// runRequest asks sandboxd to start an admitted agent.
type runRequest struct {
	Image      string             `json:"image"` // EROFS image, a file name below imagesDir
	Instance   string             `json:"instance"`
	Name       string             `json:"name"`
	Bundle     attest.Bytes32     `json:"bundle"`
	Components []attest.Component `json:"components"`
	Command    []string           `json:"command"`
	Env        map[string]string  `json:"env"`
	Dir        string             `json:"dir"` // working directory
	Tools      []toolSet          `json:"tools"`
	Models     []string           `json:"models"`
	Limits     agentLimits        `json:"limits"`
	Restart    *bundle.Restart    `json:"restart,omitempty"`
	Serve      *bundle.Serve      `json:"serve,omitempty"`
	Files      []runFile          `json:"files,omitempty"`
	A2A        a2aPart            `json:"a2a,omitzero"`
	OnDemand   bool               `json:"on_demand,omitempty"` // started when the gateway wants it (messages_spawn.go)
	Warm       *bundle.Warm       `json:"warm,omitempty"`      // sandboxes that wait for that
	Until      time.Time          `json:"until,omitzero"`      // no start after this; zero: no such time
	Engine     *bundle.Engine     `json:"engine,omitempty"`    // it is an inference engine
	Inference  *bundle.Inference  `json:"inference,omitempty"` // it uses one
	Stdio      bool               `json:"stdio,omitempty"`     // its standard input and output go to the gateway
}

// toolSet is one MCP server's pinned tool descriptors.
type toolSet struct {
	Server      string          `json:"server"`
	Descriptors json.RawMessage `json:"descriptors"`
}

// agentLimits are the cgroup limits of one sandbox.
type agentLimits struct {
	MemoryBytes int64 `json:"memory_bytes"`
	CPUMillis   int64 `json:"cpu_millis"`
	Processes   int64 `json:"processes"`
	IOBytes     int64 `json:"io_bytes_per_second"`
}

// admitRequest adds an agent to the signer's table; the signer gives it its
// index.
type admitRequest struct {
	Agent attest.Agent `json:"agent"`
}

type admitReply struct {
	Index uint32 `json:"index"`
}

// stateRequest changes the state of one agent in the signer's table.
type stateRequest struct {
	Index uint32 `json:"index"`
	State string `json:"state"`
}

// invocationRequest asks for an invocation statement; the signer fills in the
// platform. Proof is the inclusion proof of the statement's entry in the tree
// of that size, which has a checkpoint. The answer is an attest.SignedInvocation.
type invocationRequest struct {
	Statement attest.Invocation `json:"statement"`
	Size      uint64            `json:"size"`
	Proof     []attest.Bytes32  `json:"proof"`
}

// linkRequest names the agent behind the link that goes with it, and the inbound
// link behind that where the agent serves.
type linkRequest struct {
	Instance string         `json:"instance"`
	Name     string         `json:"name"`
	Bundle   attest.Bytes32 `json:"bundle"`
	Identity attest.Bytes32 `json:"identity"`
	Tools    []toolSet      `json:"tools"`
	Models   []string       `json:"models"`
	A2A      a2aPart        `json:"a2a,omitzero"`
	Engine   *enginePart    `json:"engine,omitempty"`
}

// exitsReply answers opExits, which waits until at least one agent has ended.
type exitsReply struct {
	Exits []agentExit `json:"exits"`
}

// agentExit is the end of one agent.
type agentExit struct {
	Instance string `json:"instance"`
	Code     int    `json:"code"`
}

// signRequest is a checkpoint body to sign; signReply is the signed note.
type signRequest struct {
	Text []byte `json:"text"`
}

type signReply struct {
	Note []byte `json:"note"`
}

// evidenceRequest asks for evidence fresh for a nonce. Of the agents it shows
// those whose name is in Visible, or all; the zero value shows none.
type evidenceRequest struct {
	Nonce   attest.Bytes32   `json:"nonce"`
	All     bool             `json:"all,omitempty"`
	Visible []string         `json:"visible,omitempty"`
	Have    []attest.Bytes32 `json:"have,omitempty"`
	Open    *attest.Open     `json:"open,omitempty"`
}

// evidenceReply answers evidenceRequest; with Found there is one file beside
// it, a sealed memory file with the JSON of attest.Evidence. What is to be
// opened may not be there.
type evidenceReply struct {
	Found bool `json:"found"`
}

// certificateReply answers opCertificate (no request body): evidence for the
// front's TLS key.
type certificateReply struct {
	Token []byte `json:"token"` // of eat.MarshalCertificate
}

// frontKeys are the front's public keys, told once.
type frontKeys struct {
	TLSKey  attest.Bytes32 `json:"tls_key"`
	HPKEKey attest.Bytes32 `json:"hpke_key"`
}

// appendRequest is one entry; appendReply its index, given only once a signed
// checkpoint covers it. Nobody waits for a lazy one: it may share a checkpoint
// with entries that come after it.
type appendRequest struct {
	Entry provenance.Entry `json:"entry"`
	Lazy  bool             `json:"lazy,omitempty"`
}

type appendReply struct {
	Index uint64 `json:"index"`
}

// readRequest asks for a file of the log's public tree. An answer with Found
// has one file beside it, a sealed memory file with the bytes.
type readRequest struct {
	Path string `json:"path"`
}

type readReply struct {
	Found bool `json:"found"`
}
