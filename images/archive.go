package images

// An Archive is a Debian archive and the file with the keys that sign it.
type Archive struct{ URI, SignedBy string }

// DebianArchive is where this machine's own packages come from.
func DebianArchive() (Archive, error) {
	a, err := debianSource("/etc/apt")
	return Archive{URI: a.uri, SignedBy: a.signedBy}, err
}
