package gateway_test

import (
	"crypto/ecdsa"
	"encoding/hex"
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"time"

	"omega/policy"
	"omega/policy/gateway"
	"omega/policy/provenance"
)

// answerTo is a good answer to a question, before anything is changed in it.
func answerTo(t *testing.T, q gateway.Question) policy.Approval {
	t.Helper()
	a := policy.Approval{Principal: "boss", Instance: q.Instance, Boot: [16]byte{7}, Entry: q.Entry, Widen: q.Widen, Expires: time.Now().Add(time.Hour)}
	if b, err := hex.DecodeString(q.Digest); err != nil || copy(a.Digest[:], b) != 32 {
		t.Fatalf("digest %q", q.Digest)
	}
	return a
}

func (w *world) approve(a policy.Approval, keys ...*ecdsa.PrivateKey) (uint64, error) {
	w.t.Helper()
	raw, err := policy.SignApproval(a, keys...)
	if err != nil {
		w.t.Fatal(err)
	}
	return w.gw.Approve(w.t.Context(), []string{"di"}, raw)
}

// question is the one that is open.
func (w *world) question() gateway.Question {
	w.t.Helper()
	list := w.gw.Pending([]string{"di"})
	if len(list) != 1 {
		w.t.Fatalf("%d questions are open", len(list))
	}
	return list[0]
}

func TestACallThatIsApprovedPassesOnceAndIsEnteredBefore(t *testing.T) {
	w, keys := askWorld(t, nil)
	words, isError := w.call("files", "twice", `{"n":1}`)
	if !isError || !strings.Contains(words, "boss was asked (question 0,") || !strings.Contains(words, "make exactly the same call again") {
		t.Fatalf("%q", words)
	}
	w.call("files", "twice", `{"n":1}`) // the same question, however often it is asked
	q := w.question()
	if string(q.Arguments) != `{"n":1}` || q.Action != policy.ActionCall || q.Resource != "files/twice" || q.Entry != 0 || q.Approvers[0].Name != "boss" {
		t.Errorf("question %+v", q)
	}
	if entry, err := w.approve(answerTo(t, q), keys.boss); err != nil || entry != 2 {
		t.Fatalf("entry %d, %v", entry, err)
	}
	if words, isError := w.call("files", "twice", `{"n":2}`); !isError {
		t.Errorf("another call passes by the approval: %s", words)
	}
	if words, isError := w.call("files", "twice", `{"n":1}`); isError {
		t.Errorf("the approved call is denied: %s", words)
	}
	if words, isError := w.call("files", "twice", `{"n":1}`); !isError {
		t.Errorf("it passes twice: %s", words)
	}
	w.wantLog("intent deny", "intent deny", "approval", "intent deny", "intent permit twice", "outcome ok", "intent deny")
	if _, err := w.approve(answerTo(t, q), keys.boss); codeOf(err) != gateway.RefusedQuestion {
		t.Errorf("the same answer again: %v", err)
	}
}

func TestACallIsHeldWhileAPersonDecides(t *testing.T) {
	w, keys := askWorld(t, nil)
	answered := make(chan string, 1)
	go func() {
		words, isError := w.call("files", "delete", `{}`)
		if isError {
			words = "denied: " + words
		}
		answered <- words
	}()
	for len(w.gw.Pending([]string{"di"})) == 0 {
		time.Sleep(time.Millisecond)
	}
	select {
	case words := <-answered:
		t.Fatalf("before anybody approved: %s", words)
	case <-time.After(50 * time.Millisecond):
	}
	if _, err := w.approve(answerTo(t, w.question()), keys.boss); err != nil {
		t.Fatal(err)
	}
	if words := <-answered; words != "done" {
		t.Errorf("%q", words)
	}
	w.wantLog("intent deny", "approval", "intent permit delete", "narrowing", "outcome ok")
}

func TestLostRulesComeBackByAnApprovalThatNamesThem(t *testing.T) {
	w, keys := askWorld(t, nil)
	go func() {
		for len(w.gw.Pending([]string{"di"})) == 0 {
			time.Sleep(time.Millisecond)
		}
		_, _ = w.approve(answerTo(t, w.question()), keys.boss)
	}()
	if words, isError := w.call("files", "delete", `{}`); isError {
		t.Fatal(words)
	}
	if words, isError := w.call("files", "read", `{"path":"x"}`); !isError || !strings.Contains(words, "taken away") {
		t.Fatalf("after the narrowing: %s", words)
	}
	q := w.question()
	if strings.Join(q.Widen, " ") != "read write" || len(q.Approvers) != 2 {
		t.Fatalf("question %+v", q)
	}
	less := answerTo(t, q)
	less.Widen = []string{"read"}
	if _, err := w.approve(less, keys.boss); codeOf(err) != gateway.RefusedOther || !strings.Contains(err.Error(), "other rules") {
		t.Errorf("for other rules: %v", err)
	}
	good := answerTo(t, q)
	good.Principal = "chief" // any approver of the measured policy
	if _, err := w.approve(good, keys.chief); err != nil {
		t.Fatal(err)
	}
	if words, isError := w.call("files", "read", `{"path":"x"}`); isError {
		t.Errorf("after the widening: %s", words)
	}
	var last provenance.Entry
	for _, e := range w.log.entries {
		if e.Kind == provenance.KindApproval {
			last = e
		}
	}
	if !strings.Contains(string(last.Result), `"widen":["read","write"]`) || !strings.Contains(string(last.Result), `"principal":"chief"`) {
		t.Errorf("the log says %s", last.Result)
	}
}

func TestAnAnswerIsRefusedForItsOwnReason(t *testing.T) {
	w, keys := askWorld(t, nil)
	w.call("files", "twice", `{"n":1}`)
	q := w.question()
	for _, tt := range []struct {
		name   string
		change func(*policy.Approval)
		key    *ecdsa.PrivateKey
		code   string
		words  string
	}{
		{"another boot", func(a *policy.Approval) { a.Boot[0]++ }, keys.boss, gateway.RefusedOther, "another boot"},
		{"another instance", func(a *policy.Approval) { a.Instance = "reporter-2" }, keys.boss, gateway.RefusedOther, "for instance reporter-2"},
		{"other arguments", func(a *policy.Approval) { a.Digest[0]++ }, keys.boss, gateway.RefusedOther, "other arguments"},
		{"no question", func(a *policy.Approval) { a.Entry = 9 }, keys.boss, gateway.RefusedQuestion, "entry 9 is no open question"},
		{"another approver", func(a *policy.Approval) { a.Principal = "chief" }, keys.chief, gateway.RefusedOther, "wanted by boss"},
		{"another key", func(*policy.Approval) {}, keys.chief, gateway.RefusedSigner, "no trusted signature"},
		{"no approver", func(a *policy.Approval) { a.Principal = "acme" }, keys.boss, gateway.RefusedSigner, "no approver"},
		{"expired", func(a *policy.Approval) { a.Expires = time.Now().Add(-time.Minute) }, keys.boss, gateway.RefusedExpired, "it ended at"},
		{"for ever", func(a *policy.Approval) { a.Expires = time.Now().Add(48 * time.Hour) }, keys.boss, gateway.RefusedOther, "more than 24h"},
		{"rules as well", func(a *policy.Approval) { a.Widen = []string{"read"} }, keys.boss, gateway.RefusedOther, "other rules"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := answerTo(t, q)
			tt.change(&a)
			if _, err := w.approve(a, tt.key); codeOf(err) != tt.code || !strings.Contains(err.Error(), tt.words) {
				t.Errorf("%v, want %s with %q", err, tt.code, tt.words)
			}
		})
	}
	if _, err := w.gw.Approve(t.Context(), []string{"di"}, []byte("{}")); codeOf(err) != gateway.RefusedForm {
		t.Errorf("what is no approval: %v", err)
	}
	raw, err := policy.SignApproval(answerTo(t, q), keys.boss)
	if err != nil {
		t.Fatal(err)
	}
	for _, caller := range []string{"al", "ed", "nobody"} { // another right, another agent, nobody
		if list := w.gw.Pending([]string{caller}); len(list) != 0 {
			t.Errorf("%s sees %d questions", caller, len(list))
		}
		if _, err := w.gw.Approve(t.Context(), []string{caller}, raw); codeOf(err) != gateway.RefusedQuestion {
			t.Errorf("%s hands in an approval: %v", caller, err)
		}
	}
	if words, isError := w.call("files", "twice", `{"n":1}`); !isError {
		t.Errorf("one of them had an effect: %s", words)
	}
	w.wantLog("intent deny", "intent deny")
}

func TestAnApprovalHasNoEffectBeforeItIsEnteredNorAfterItsTime(t *testing.T) {
	now := time.Now()
	var mu sync.Mutex
	clock := func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
	w, keys := askWorld(t, nil, func(c *gateway.Config) { c.Now = clock })
	w.call("files", "twice", `{}`)
	full := true
	w.log.fail = func(e provenance.Entry) error {
		if full && e.Kind == provenance.KindApproval {
			return errFull
		}
		return nil
	}
	a := answerTo(t, w.question())
	a.Expires = now.Add(10 * time.Minute)
	if _, err := w.approve(a, keys.boss); codeOf(err) != gateway.RefusedLog {
		t.Fatalf("without the log: %v", err)
	}
	if words, isError := w.call("files", "twice", `{}`); !isError {
		t.Fatalf("an approval that is not in the log has an effect: %s", words)
	}
	full = false
	if _, err := w.approve(a, keys.boss); err != nil {
		t.Fatalf("the same one, entered: %v", err)
	}
	mu.Lock()
	now = now.Add(11 * time.Minute)
	mu.Unlock()
	if words, isError := w.call("files", "twice", `{}`); !isError {
		t.Errorf("after its time: %s", words)
	}
}

func TestOneApprovalServesOneOfManyCallsAtOnce(t *testing.T) {
	w, keys := askWorld(t, nil)
	w.call("files", "twice", `{}`)
	if _, err := w.approve(answerTo(t, w.question()), keys.boss); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	passed := make(chan bool, 8)
	for range cap(passed) {
		wg.Go(func() {
			_, isError := w.call("files", "twice", `{}`)
			passed <- !isError
		})
	}
	wg.Wait()
	n := 0
	for range cap(passed) {
		if <-passed {
			n++
		}
	}
	if n != 1 {
		t.Errorf("%d calls passed", n)
	}
}

func TestAnAgentOpensAFewQuestionsAtMost(t *testing.T) {
	w, _ := askWorld(t, nil)
	for i := range 20 {
		args, _ := json.Marshal(map[string]int{"n": i})
		words, _ := w.call("files", "twice", string(args))
		if full := strings.Contains(words, "too many questions"); full != (i >= 16) {
			t.Errorf("call %d: %s", i, words)
		}
	}
	if n := len(w.gw.Pending([]string{"di"})); n != 16 {
		t.Errorf("%d questions", n)
	}
}

func TestAQuestionAboutLostRulesEndsAndTakesNoPlaceOfOneAboutACall(t *testing.T) {
	now := time.Now()
	var mu sync.Mutex
	w, keys := askWorld(t, nil, func(c *gateway.Config) { c.Now = func() time.Time { mu.Lock(); defer mu.Unlock(); return now } })
	go func() {
		for len(w.gw.Pending([]string{"di"})) == 0 {
			time.Sleep(time.Millisecond)
		}
		_, _ = w.approve(answerTo(t, w.question()), keys.boss)
	}()
	if words, isError := w.call("files", "delete", `{}`); isError {
		t.Fatal(words)
	}
	q := w.question()
	if len(q.Widen) == 0 || !q.Until.Equal(q.Asked.Add(24*time.Hour)) {
		t.Fatalf("%+v", q)
	}
	for i := range 16 {
		args, _ := json.Marshal(map[string]int{"n": i})
		if words, _ := w.call("files", "twice", string(args)); strings.Contains(words, "too many questions") {
			t.Errorf("call %d, beside a question about rules: %s", i, words)
		}
	}
	mu.Lock()
	now = now.Add(25 * time.Hour)
	mu.Unlock()
	if open := w.gw.Pending([]string{"di"}); len(open) != 0 {
		t.Errorf("a day later %d are open", len(open))
	}
	late := answerTo(t, q)
	late.Expires = now.Add(time.Hour)
	if _, err := w.approve(late, keys.boss); err == nil {
		t.Error("an answer a day later has an effect")
	}
	if words, isError := w.call("files", "read", `{"path":"x"}`); !isError || !strings.Contains(words, "taken away") {
		t.Errorf("the rules that nobody gave back: %s", words)
	}
}
