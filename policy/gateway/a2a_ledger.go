package gateway

import "sync"

// Bounds of what is remembered of conversations.
const (
	maxPairs   = 4096
	maxPairIDs = 2048 // tasks and contexts; the oldest of a pair are forgotten first
)

// ledgers say, for each agent that is spoken to, which tasks and contexts it has
// with whom: an id that an agent has heard of is no right to the task.
type ledgers struct {
	mu  sync.Mutex // guards all
	all map[string]*ledger
}

func (l *ledgers) of(receiver string) *ledger {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.all == nil {
		l.all = map[string]*ledger{}
	}
	if l.all[receiver] == nil {
		l.all[receiver] = &ledger{owner: map[string]string{}, ids: map[string][]string{}}
	}
	return l.all[receiver]
}

// ledger is what one receiver has with others.
type ledger struct {
	mu    sync.Mutex          // guards what follows
	owner map[string]string   // the pair of a kind and id
	ids   map[string][]string // of a pair, oldest first
}

// holds says whether an id is this pair's.
func (l *ledger) holds(pair, kind, id string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.owner[kind+"\x00"+id] == pair && pair != ""
}

// claim makes an id this pair's, unless it is another's.
func (l *ledger) claim(pair, kind, id string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	key := kind + "\x00" + id
	if whose, taken := l.owner[key]; taken || pair == "" {
		return taken && whose == pair
	}
	if _, known := l.ids[pair]; !known && len(l.ids) >= maxPairs {
		return false
	}
	if mine := l.ids[pair]; len(mine) >= maxPairIDs {
		delete(l.owner, mine[0])
		l.ids[pair] = mine[1:]
	}
	l.owner[key] = pair
	l.ids[pair] = append(l.ids[pair], key)
	return true
}

// forget takes an instance for one that nobody has spoken with and that has
// spoken with nobody: the next sandbox of its name is another's.
func (l *ledgers) forget(instance string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.all, "agent:"+instance)
	for _, of := range l.all {
		of.mu.Lock()
		for _, key := range of.ids[instance] {
			delete(of.owner, key)
		}
		delete(of.ids, instance)
		of.mu.Unlock()
	}
}
