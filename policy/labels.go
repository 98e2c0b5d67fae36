package policy

import (
	"slices"
	"strings"
)

// Labels are texts that an instance collects and never loses.
const (
	// labelUntrusted begins the label of what an untrusted source influenced:
	// "untrusted:SOURCE".
	labelUntrusted = "untrusted:"
	// labelReaders begins the label of content that only some may read:
	// "readers:A,B", sorted. Everything sent must be for readers among them.
	labelReaders = "readers:"
	// labelNobody is for an instance with more labels than are kept: it has
	// seen what it may tell to no one.
	labelNobody = "readers:"
	// Public is the reader that stands for anybody.
	Public = "public"
)

// maxLabels bounds the labels of one instance. Beyond it the instance is
// untrusted and may tell nothing to anybody.
const maxLabels = 256

// LabelsOf are the labels that a result puts on whoever gets it.
func LabelsOf(r *Result, source string) []string {
	var out []string
	if r == nil {
		r = &Result{}
	}
	if len(r.Readers) > 0 {
		readers := slices.Clone(r.Readers)
		slices.Sort(readers)
		out = append(out, labelReaders+strings.Join(slices.Compact(readers), ","))
	}
	if r.Integrity != Trusted {
		out = append(out, labelUntrusted+source)
	}
	return out
}

// Tainted says whether labels hold the influence of an untrusted source.
func Tainted(labels []string) bool {
	return slices.ContainsFunc(labels, func(l string) bool { return !strings.HasPrefix(l, labelReaders) })
}

// ResultOf is what a permitted call gives back: the permit's word, or that of
// the upstream, or nil: untrusted, for everybody.
func (d *Document) ResultOf(p Permit, resource string) *Result {
	if p.Result != nil {
		return p.Result
	}
	r, _ := d.upstream(p.Action, resource)
	return r
}

// ReadersOf is who reads what a permitted call sends.
func (d *Document) ReadersOf(p Permit, resource string) []string {
	if len(p.Readers) > 0 {
		return p.Readers
	}
	if _, readers := d.upstream(p.Action, resource); len(readers) > 0 {
		return readers
	}
	return []string{Public}
}

// merge adds labels to a sorted list, which only grows.
func merge(into, labels []string) []string {
	for _, l := range labels {
		if i, found := slices.BinarySearch(into, l); !found {
			into = slices.Insert(into, i, l)
		}
	}
	if len(into) > maxLabels {
		return []string{labelNobody, labelUntrusted + "*"}
	}
	return into
}
