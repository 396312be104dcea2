package order

import "strings"

// Base is the base subject of a subject in UTF-8, without its encoded words (RFC 5256 section 2.1): what is left without the marks of
// replies, forwards and mailing lists. reply says that such a mark of a reply or forward was there.
func Base(subject string) (base string, reply bool) {
	s := oneSpaced(subject)
	for {
		var trailer, leader bool
		s, trailer = trimTrailers(s)
		s, leader = trimLeaders(s)
		reply = reply || trailer || leader
		if !hasPrefixFold(s, "[fwd:") || s[len(s)-1] != ']' {
			return s, reply
		}
		s, reply = s[len("[fwd:"):len(s)-1], true
	}
}

// oneSpaced has one space for each run of white space and line ends.
func oneSpaced(s string) string {
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c == '\t' || c == '\r' || c == '\n' {
			c = ' '
		}
		if n := len(out); c == ' ' && n > 0 && out[n-1] == ' ' {
			continue
		}
		out = append(out, c)
	}
	return string(out)
}

// trimTrailers takes "(fwd)" and spaces from the end.
func trimTrailers(s string) (rest string, forwarded bool) {
	for {
		s = strings.TrimRight(s, " ")
		cut := len(s) - len("(fwd)")
		if cut < 0 || !strings.EqualFold(s[cut:], "(fwd)") {
			return s, forwarded
		}
		s, forwarded = s[:cut], true
	}
}

// trimLeaders takes "re:" and its like and the names of lists, "[list]", from the start; of a subject that is all names the last is left.
// The names in a row are passed over at once, for either a mark follows them or nothing but the last of them stays.
func trimLeaders(s string) (rest string, reply bool) {
	for {
		s = strings.TrimLeft(s, " ")
		rest, last := s, s
		for {
			after, ok := cutBlob(rest)
			if !ok {
				break
			}
			last, rest = rest, after
		}
		after, ok := cutMark(rest)
		switch {
		case ok:
			s, reply = after, true
			continue
		case rest == "":
			return last, reply
		}
		return rest, reply
	}
}

// cutBlob takes a name in brackets, with the spaces behind it.
func cutBlob(s string) (rest string, ok bool) {
	if s == "" || s[0] != '[' {
		return s, false
	}
	end := strings.IndexAny(s[1:], "[]") + 1
	if end == 0 || s[end] == '[' {
		return s, false
	}
	return strings.TrimLeft(s[end+1:], " "), true
}

// cutMark takes the mark of a reply or forward: "re:", "fw:", "fwd:", also as "Re[2]:".
func cutMark(s string) (rest string, ok bool) {
	for _, mark := range [...]string{"re", "fwd", "fw"} {
		if !hasPrefixFold(s, mark) {
			continue
		}
		after, _ := cutBlob(strings.TrimLeft(s[len(mark):], " "))
		if after, ok = strings.CutPrefix(after, ":"); ok {
			return after, true
		}
	}
	return s, false
}

func hasPrefixFold(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}
