package main

import (
	"fmt"
	"slices"
	"strings"

	"omega/attest"
)

// Measures of the picture, in its own units.
const (
	pictureWidth = 1000
	pictureGap   = 28
	cardGap      = 12
	lineHeight   = 18
	boxHead      = 28 // above the first line of a box
	boxFoot      = 10
	runeWidth    = 6.7 // of the lines' font, on the wide side
	// maxCards bounds the agents that are drawn; the table shows all.
	maxCards = 12
	// notAppraised is the status of what no check spoke of.
	notAppraised = "unknown"
)

// picture is the chain of trust as boxes and arrows with places.
type picture struct {
	Width, Height int
	Boxes         []pictureBox
	Arrows        []pictureArrow
}

type pictureBox struct {
	X, Y, W, H int
	Status     string // also the CSS class
	Title      string
	Lines      []pictureLine
}

type pictureLine struct {
	Text string
	Soft bool
}

type pictureArrow struct {
	X1, Y1, X2, Y2 int
	Status         string
}

// Mark is the status as a sign, for those who do not see colours.
func (b *pictureBox) Mark() string {
	switch b.Status {
	case attest.Proven:
		return "✓"
	case attest.Failed:
		return "✕"
	}
	return "?"
}

// LineY is the base line of line i.
func (b *pictureBox) LineY(i int) int { return b.Y + boxHead + 14 + i*lineHeight }

// TextX is where text begins.
func (b *pictureBox) TextX() int { return b.X + 12 }

// MarkX is where the mark ends.
func (b *pictureBox) MarkX() int { return b.X + b.W - 10 }

// TitleY is the base line of the title.
func (b *pictureBox) TitleY() int { return b.Y + 21 }

// say adds text to the box, wrapped to its width.
func (b *pictureBox) say(soft bool, text string) {
	for _, l := range wrap(clean(text), int(float64(b.W-24)/runeWidth)) {
		b.Lines = append(b.Lines, pictureLine{l, soft})
	}
	b.H = boxHead + boxFoot + len(b.Lines)*lineHeight
}

// draw lays the chain out: three columns down to the platform, then what the
// platform vouches for, then what nobody does.
func (v *verification) draw() *picture {
	p := &picture{Width: pictureWidth}
	left, middle, right := v.columns()
	y := 6
	var last *pictureBox
	for row := range middle {
		boxes := []*pictureBox{left[row], middle[row], right[row]}
		height := 0
		for _, b := range boxes {
			if b != nil {
				height = max(height, b.H)
			}
		}
		for _, b := range boxes {
			if b != nil {
				b.Y, b.H = y, height
			}
		}
		p.join(last, boxes)
		last = middle[row]
		y += height + pictureGap
	}
	if v.Evidence != nil {
		y = p.agents(v, y, last)
		y = p.wide(v.logBox(), y, nil)
	}
	p.wide(v.unprovenBox(), y, nil)
	return p
}

// join draws one row and its arrows: from the row above, and from both sides.
func (p *picture) join(above *pictureBox, row []*pictureBox) {
	centre := row[1]
	if above != nil {
		x := centre.X + centre.W/2
		p.Arrows = append(p.Arrows, pictureArrow{x, above.Y + above.H, x, centre.Y - 2, above.Status})
	}
	y := centre.Y + centre.H/2
	if l := row[0]; l != nil {
		p.Arrows = append(p.Arrows, pictureArrow{l.X + l.W, y, centre.X - 2, y, l.Status})
	}
	if r := row[2]; r != nil {
		p.Arrows = append(p.Arrows, pictureArrow{r.X, y, centre.X + centre.W + 2, y, r.Status})
	}
	for _, b := range row {
		if b != nil {
			p.add(b)
		}
	}
}

func (p *picture) add(b *pictureBox) {
	p.Boxes = append(p.Boxes, *b)
	p.Height = max(p.Height, b.Y+b.H+6)
}

// wide draws a box over the whole width, below an arrow if something is above.
func (p *picture) wide(b *pictureBox, y int, above *pictureBox) int {
	b.Y = y
	if above != nil {
		p.Arrows = append(p.Arrows, pictureArrow{pictureWidth / 2, y - pictureGap, pictureWidth / 2, y - 2, above.Status})
	}
	p.add(b)
	return y + b.H + pictureGap
}

// agents draws a frame with a card for each agent, three in a row.
func (p *picture) agents(v *verification, y int, above *pictureBox) int {
	agents := v.Evidence.Agents
	frame := &pictureBox{X: 10, W: pictureWidth - 20, Y: y, Status: v.resting("agents"), Title: fmt.Sprintf("Agents admitted in this boot: %d", len(agents))}
	if v.status(platformChecks()...) == attest.Proven {
		frame.say(true, "The measured image checked their principals' signatures before it started them.")
	} else {
		frame.say(true, "What is not proven to be the measured image claims that their principals signed them.")
	}
	if len(agents) > maxCards {
		frame.say(true, fmt.Sprintf("Here are the first %d; the table below has all.", maxCards))
		agents = agents[:maxCards]
	}
	const width = (pictureWidth - 20 - 4*cardGap) / 3
	var cards []*pictureBox
	at, height := y+frame.H, 0
	for i := range agents {
		if i > 0 && i%3 == 0 {
			at, height = at+height+cardGap, 0
		}
		c := v.agentCard(&agents[i], width)
		c.X, c.Y = frame.X+cardGap+(i%3)*(width+cardGap), at
		height = max(height, c.H)
		cards = append(cards, c)
	}
	if len(cards) > 0 {
		frame.H = at + height + cardGap - y
	}
	y = p.wide(frame, y, above)
	for _, c := range cards {
		p.add(c)
	}
	return y
}

// agentCard is an agent with who vouches for each of its parts.
func (v *verification) agentCard(a *attest.Agent, width int) *pictureBox {
	name := a.Instance
	if !a.Shown() {
		name = fmt.Sprintf("#%d", a.Index)
	}
	b := &pictureBox{W: width, Status: v.resting("agent " + name), Title: cut(clean(name), 30)}
	room := int(float64(width-24) / runeWidth)
	if !a.Hidden.IsZero() {
		b.Status = notAppraised
		b.say(true, "not shown to you")
		return b
	}
	b.say(true, cut(strings.TrimPrefix(fmt.Sprintf("%s, %s", a.Name, a.State), ", "), room))
	for _, c := range a.Components {
		if !c.Shown() {
			b.say(true, "a part that is not shown")
			continue
		}
		b.say(false, cut(c.Kind+": "+c.Name, room))
		who := "nobody vouches for it"
		if c.Principal != "" {
			who = c.Principal + " vouches, as " + c.Role
		}
		b.say(true, cut("   "+who, room))
	}
	return b
}

// status is the worst outcome of the named checks.
func (v *verification) status(names ...string) string {
	order := []string{attest.Proven, attest.NotProven, notAppraised, attest.Failed}
	worst := 0
	for _, name := range names {
		found := -1
		for _, c := range v.Checks {
			if c.Name == name {
				found = max(found, slices.Index(order, c.Status))
			}
		}
		if found < 0 {
			found = slices.Index(order, notAppraised)
		}
		worst = max(worst, found)
	}
	return order[worst]
}

// resting is the status of what the platform claims: however well the claims
// agree among themselves, they are worth nothing where the platform is not
// proven.
func (v *verification) resting(names ...string) string {
	own, ground := v.status(names...), v.status(platformChecks()...)
	if own != attest.Failed && (ground == attest.Failed || ground == notAppraised) {
		return notAppraised
	}
	return own
}

// platformChecks are those that everything rests on which the platform claims.
func platformChecks() []string {
	return append(chipChecks(), "measurement", "report_data", "nonce")
}

// chipChecks are those of the report alone.
func chipChecks() []string {
	return []string{"signature", "vmpl", "guest_policy", "guest_svn", "tcb", "platform"}
}

// found is what the check with that name found.
func (v *verification) found(name, otherwise string) string {
	for _, c := range v.Checks {
		if c.Name == name && c.Found != "" {
			return c.Found
		}
	}
	return otherwise
}
