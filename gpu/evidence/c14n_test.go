package evidence

import "testing"

// The wanted forms follow Canonical XML 1.1 sections 2.3 and 3.
func TestCanonicalForm(t *testing.T) {
	tests := []struct{ name, doc, want string }{
		{"empty elements are expanded", `<a/>`, `<a></a>`},
		{"the declaration goes", "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<a/>\n", `<a></a>`},
		{"attributes: by namespace, then name; none first", `<a xmlns:y="b" xmlns:x="c" x:k="1" y:k="2" z="3" b="4"/>`, `<a xmlns:x="c" xmlns:y="b" b="4" z="3" y:k="2" x:k="1"></a>`},
		{"the default namespace comes first", `<n:a xmlns:n="u" xmlns="v"/>`, `<n:a xmlns="v" xmlns:n="u"></n:a>`},
		{"a declaration again goes", `<a xmlns="u"><b xmlns="u"/></a>`, `<a xmlns="u"><b></b></a>`},
		{"a default taken back stays", `<a xmlns="u"><b xmlns=""><c xmlns="u"/></b></a>`, `<a xmlns="u"><b xmlns=""><c xmlns="u"></c></b></a>`},
		{"an empty default that changes nothing goes", `<a xmlns=""/>`, `<a></a>`},
		{"a prefix bound anew stays", `<n:a xmlns:n="u"><n:b xmlns:n="v"/></n:a>`, `<n:a xmlns:n="u"><n:b xmlns:n="v"></n:b></n:a>`},
		{"text", "<a>1 &lt; 2 &amp;\r\n&gt; \"'&#13;</a>", "<a>1 &lt; 2 &amp;\n&gt; \"'&#xD;</a>"},
		{"CDATA", `<a><![CDATA[<&]]></a>`, `<a>&lt;&amp;</a>`},
		{"quotes", `<a b='"&lt;>'/>`, `<a b="&quot;&lt;>"></a>`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			root, err := parseXML([]byte(tt.doc))
			if err != nil {
				t.Fatal(err)
			}
			if got := string(canonical(root, nil)); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

func TestASubsetCarriesTheNamespacesAroundIt(t *testing.T) {
	root, err := parseXML([]byte(`<a xmlns="u" xmlns:p="v"><p:b xmlns:q="w"><c>x</c></p:b><d/></a>`))
	if err != nil {
		t.Fatal(err)
	}
	const want = `<c xmlns="u" xmlns:p="v" xmlns:q="w">x</c>`
	if got := string(canonical(root.children[0].children[0], nil)); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	const rest = `<a xmlns="u" xmlns:p="v"><d></d></a>`
	if got := string(canonical(root, root.children[0])); got != rest {
		t.Errorf("got  %s\nwant %s", got, rest)
	}
}
