// Package provenance is the public form of the provenance log: what an entry
// says, how a leaf hides it from all but the auditors, how leaves become C2SP
// tiles below a signed checkpoint, and how a copy of a log is verified. It
// appends nothing (package writer does), holds no signing key and does no I/O
// but through the Source that it is given.
package provenance
