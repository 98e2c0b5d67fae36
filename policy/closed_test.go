package policy_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"omega/policy"
)

// full is an input with every field.
const full = `{"action":"a","agent":{"instance":"i","name":"n"},"args":{"x":1},"resource":"r","session":"s","state":` +
	`{"approvals":["p"],"budgets":{"b":1.5},"charges":{"b":0},"counts":{"r":1},"endorsed":["x"],"labels":["untrusted:x"],"narrowed":[],"now":5,"rates":{"r":1},"session_counts":{"r":2}}}`

// malformed are inputs that nothing may decide.
func malformed() map[string]string {
	change := func(old, new string) string { return strings.Replace(full, old, new, 1) }
	args := func(v string) string { return change(`{"x":1}`, v) }
	keys := make([]string, 600)
	for i := range keys {
		keys[i] = fmt.Sprintf(`"k%d":0`, i)
	}
	return map[string]string{
		"empty": "", "space": "  ", "null": "null", "text": `"x"`, "list": "[" + full + "]", "cut off": full[:len(full)-1],
		"duplicate key":              args(`{"x":1,"x":2}`),
		"duplicate key by escape":    args(`{"x":1,"\u0078":2}`),
		"duplicate by surrogates":    args(`{"😀":1,"\ud83d\ude00":2}`),
		"duplicate deep inside":      args(`{"x":[{"a":{"b":1,"b":1}}]}`),
		"duplicate field":            change(`"action":"a"`, `"action":"a","action":"b"`),
		"duplicate by case":          change(`"action":"a"`, `"action":"a","Action":"b"`),
		"unknown field":              change(`"action"`, `"extra":1,"action"`),
		"unknown field of the agent": change(`"name":"n"`, `"name":"n","role":"x"`),
		"unknown field of the state": change(`"now":5`, `"now":5,"clock":5`),
		"no action":                  change(`"action":"a",`, ``),
		"no name":                    change(`,"name":"n"`, ``),
		"no args":                    change(`"args":{"x":1},`, ``),
		"no labels":                  change(`"labels":["untrusted:x"],`, ``),
		"no counts":                  change(`"counts":{"r":1},`, ``),
		"args as list":               args(`[1]`), "args null": args(`null`), "args as text": args(`"{}"`),
		"action null":        change(`"action":"a"`, `"action":null`),
		"labels as text":     change(`["untrusted:x"]`, `"untrusted:x"`),
		"label as number":    change(`["untrusted:x"]`, `[1]`),
		"count as text":      change(`"counts":{"r":1}`, `"counts":{"r":"1"}`),
		"count null":         change(`"counts":{"r":1}`, `"counts":{"r":null}`),
		"counts null":        change(`"counts":{"r":1}`, `"counts":null`),
		"count with a part":  change(`"counts":{"r":1}`, `"counts":{"r":1.5}`),
		"number beyond 2^53": args(`{"x":9007199254740993}`), "number below -2^53": args(`{"x":-9007199254740993}`),
		"number of many digits": args(`{"x":123456789012345678901234567890}`), "number with an exponent": args(`{"x":1e300}`), "infinite number": args(`{"x":1e999}`),
		"leading zero": args(`{"x":01}`), "plus": args(`{"x":+1}`), "no fraction": args(`{"x":1.}`), "no exponent": args(`{"x":1e}`), "hex": args(`{"x":0x1}`), "NaN": args(`{"x":NaN}`), "only minus": args(`{"x":-}`),
		"not UTF-8":         args("{\"x\":\"\xff\"}"),
		"cut UTF-8":         args("{\"x\":\"\xc3\"}"),
		"UTF-8 surrogate":   args("{\"x\":\"\xed\xa0\x80\"}"),
		"overlong UTF-8":    args("{\"x\":\"\xc0\xaf\"}"),
		"lone surrogate":    args(`{"x":"\ud800"}`),
		"wrong pair":        args(`{"x":"\ud800\u0041"}`),
		"low surrogate":     args(`{"x":"\udc00"}`),
		"unknown escape":    args(`{"x":"\q"}`),
		"short escape":      args(`{"x":"\u12"}`),
		"control character": args("{\"x\":\"\n\"}"),
		"open string":       args(`{"x":"`),
		"trailing comma":    args(`{"x":1,}`), "comma in a list": args(`{"x":[1,]}`), "no comma": args(`{"x":1 "y":2}`), "no colon": args(`{"x" 1}`), "key without quotes": args(`{x:1}`), "single quotes": args(`{'x':1}`), "comment": args(`{"x":1/**/}`),
		"mixed brackets": args(`{"x":[1}}`), "word": args(`{"x":nul}`), "two values": args(`{"x":1 2}`),
		"trailing":          full + "{}",
		"byte order mark":   "\ufeff" + full,
		"longer than limit": args(`{"x":"` + strings.Repeat("r", policy.MaxInput) + `"}`),
		"nesting bomb":      args(`{"x":` + strings.Repeat("[", 100000) + strings.Repeat("]", 100000) + `}`),
		"just too deep":     args(`{"x":` + strings.Repeat("[", 32) + strings.Repeat("]", 32) + `}`),
		"too many values":   args(`{"x":[` + strings.Repeat("0,", 9000) + `0]}`),
		"too many keys":     args(`{` + strings.Join(keys, ",") + `}`),
	}
}

func TestMalformedInputsAreDenied(t *testing.T) {
	d := load(t, "package omega\ndecision := "+permit)
	ok := func(s string) policy.Decision { return d.Decide(context.Background(), []byte(s)) }
	for _, good := range []string{
		input, full, " " + strings.ReplaceAll(full, ",", " ,\n\t") + "\r\n",
		strings.Replace(full, `{"x":1}`, `{"":"","\u0000":0,"a\"b":-0.5e-3,"é\ud83d\ude00":[[],{},null,true,false],"X":1,"x":1}`, 1),
		strings.Replace(full, `{"x":1}`, `{"x":9007199254740991,"y":-9007199254740991,"z":1e-400,"deep":`+strings.Repeat("[", 20)+strings.Repeat("]", 20)+`}`, 1),
	} {
		if got := ok(good); !got.Permit {
			t.Errorf("%s is denied: %q", good, got.Reasons)
		}
	}
	for name, in := range malformed() {
		got := ok(in)
		if got.Permit || len(got.Reasons) != 1 || !strings.HasPrefix(got.Reasons[0], "decision input: ") {
			t.Errorf("%s: %+v", name, got)
		}
		if _, err := policy.ParseInput([]byte(in)); err == nil && !strings.HasPrefix(name, "too many") && !strings.HasPrefix(name, "no ") && !strings.Contains(name, "null") && !strings.Contains(name, "too deep") {
			t.Errorf("%s: the reader of the log takes it", name)
		}
	}
	large := strings.Replace(input, `"r"`, `"`+strings.Repeat("r", policy.MaxInput-200)+`"`, 1)
	for range 20 {
		if got := ok(large); !got.Permit {
			t.Fatalf("a large input is denied: %q", got.Reasons)
		}
	}
}

func FuzzInput(f *testing.F) {
	f.Add([]byte(input))
	f.Add([]byte(full))
	for _, in := range malformed() {
		if len(in) < 4096 {
			f.Add([]byte(in))
		}
	}
	wasm, err := policyWasm(policy.Entrypoint, "package omega\ndecision := "+permit)
	if err != nil {
		f.Fatal(err)
	}
	d, err := policy.NewDecider(context.Background(), wasm)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		permitted := d.Decide(context.Background(), b).Permit
		in, err := policy.ParseInput(b)
		if err != nil {
			if permitted {
				t.Fatalf("%q is decided, but the reader of the log says %v", b, err)
			}
			return
		}
		text, err := in.Encode()
		if err != nil {
			t.Fatal(err)
		}
		again, err := policy.ParseInput(text)
		if err != nil {
			t.Fatalf("own form %s: %v", text, err)
		}
		if second, _ := again.Encode(); string(second) != string(text) {
			t.Fatalf("%s became %s", text, second)
		}
	})
}

// slow is a policy that one action keeps busy for minutes.
const slow = `package omega
decision := ` + permit + ` if { input.action == "a" }
decision := ` + permit + ` if {
	input.action == "slow"
	count([1 | some a in numbers.range(1, 3000); some b in numbers.range(1, 3000); a == b + 5000]) == 0
}`

func TestLateDecisionsAreDenialsAndLeaveNothingBehind(t *testing.T) {
	d := load(t, slow)
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	begin := time.Now()
	if got := d.Decide(ctx, []byte(strings.Replace(input, `"a"`, `"slow"`, 1))); got.Permit {
		t.Error("a late permit counts")
	}
	if took := time.Since(begin); took > 20*time.Second {
		t.Errorf("took %s", took)
	}
	if got := d.Decide(context.Background(), []byte(input)); !got.Permit {
		t.Errorf("the next decision: %q", got.Reasons)
	}
	over, end := context.WithCancel(context.Background())
	end()
	if got := d.Decide(over, []byte(input)); got.Permit {
		t.Error("a decision for nobody")
	}
}

func TestASlowDecisionDelaysNoOther(t *testing.T) {
	d := load(t, slow)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { d.Decide(ctx, []byte(strings.Replace(input, `"a"`, `"slow"`, 1))) })
	for range 50 {
		if got := d.Decide(context.Background(), []byte(input)); !got.Permit {
			t.Errorf("beside a slow one: %q", got.Reasons)
		}
	}
	cancel()
	wg.Wait()
	if got := d.Decide(context.Background(), []byte(input)); !got.Permit {
		t.Errorf("after it: %q", got.Reasons)
	}
}

func TestFaultsEndOneDecisionAlone(t *testing.T) {
	d := load(t, `package omega
decision := `+permit+` if input.action == "a"
decision := `+permit+` if { input.action == "bad"; to_number(input.resource) == 1 }`)
	for range 30 { // more than there are instances
		if got := d.Decide(context.Background(), []byte(strings.Replace(input, `"a"`, `"bad"`, 1))); got.Permit {
			t.Fatal("a fault permits")
		}
		if got := d.Decide(context.Background(), []byte(input)); !got.Permit {
			t.Fatalf("after a fault: %q", got.Reasons)
		}
	}
}
