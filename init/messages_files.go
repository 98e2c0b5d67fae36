package main

import "omega/attest"

// Operations on the files of agents: models, adapters, data sets.
const (
	opDisk  = "disk"  // fetcher -> sandboxd
	opEnded = "ended" // pid1 -> fetcher
)

// diskRequest asks whether a disk of the machine holds the file of that verity
// root and size.
type diskRequest struct {
	Root attest.Bytes32 `json:"root"`
	Size int64          `json:"size"`
}

type diskReply struct {
	Found bool `json:"found"`
}

// runFile is one file of an agent that is to be run.
type runFile struct {
	Kind string         `json:"kind"`
	Name string         `json:"name"`
	Size int64          `json:"size"`
	Root attest.Bytes32 `json:"root"`
	// File is its name below the fetcher's folder; empty: a disk holds it.
	File string `json:"file,omitempty"`
}

// endedRequest says that an agent has ended for good: what it alone used may go.
type endedRequest struct {
	Instance string `json:"instance"`
}
