package mail

import (
	"math/rand/v2"
	"strings"
	"unicode"
)

// common are frequent words, the most frequent first; the rest of the vocabulary is made of syllables.
const common = `the to and of a in for is you we on that this with be it are have will your as at from our or i not can by if an
all please me has any was but they do would up there what so my been new which one out time about more when no meeting just
could should need also know their who some only let get other see week first project week had were send next work team make
like date today than here them into use these then back over now may how said after last want very should update report per
order number email account call day customer review change document version attached issue plan data price service office
tomorrow monday tuesday thursday friday budget contract invoice delivery thanks question schedule address company system
agree forward month year two three few before between still look good best sure help think office same under each both made`

// hanzi are frequent characters, the most frequent first.
const hanzi = `的一是在不了有和人这中大为上个国我以要他时来用们生到作地于出就分对成会可主发年动同工也能下过子说产种面而方后多定行学法所民得经十三之进着等部度家电力里如水化高自二理起小物现实加量都两体制机当使点从业本去把性好应开它合还因由其些然前外天政四日那社义事平形相全表间样与关各重新线内数正心反你明看原又么利比或但质气第向道命此变条只没结解问意建月公无系军很情者最立代想已通并提直题党程展五果料象员革位入常文总次品式活设及管特件长求老头基资边流路级少图山统接知较将组见计别她手角期根论运农指几九区强放决西被干做必战先回则任取据处队南给色光门即保治北造百规热领七海口东导器压志世金增争济阶油思术极交受联什认六共权收证改清己美再采转更单风切打白教速花带安场身车例真务具万每目至达走积示议声报斗完类八离华名确才科张信马节话米整空元况今集温传土许步群广石记需段研界拉林律叫且究观越织装影算低持音众书布复容儿须际商非验连断深难近矿千周委素技备半办青省列习响约支般史感劳便团往酸历市克何除消构府称太准精值号率族维划选标写存候毛亲快效斯院查江型眼王按格养易置派层片始却专状育厂京识适属圆包火住调满县局照参红细引听该铁价严`

// phrases that everybody writes.
var phrases = map[bool][]string{
	false: {
		"Please find attached the document we discussed.", "Let me know if you have any questions.", "Thank you for your quick reply.",
		"I hope this email finds you well.", "Looking forward to hearing from you.", "Could you please take a look at this?",
		"As discussed in the meeting yesterday,", "Please do not hesitate to contact me.", "Sounds good to me.", "I will get back to you tomorrow.",
		"Just a quick reminder that", "Thanks for the update.", "Sorry for the late reply.", "We would like to inform you that",
	},
	true: {
		"您好，附件是我们讨论的文件，请查收。", "如有任何问题，请随时与我联系。", "谢谢您的回复。", "请尽快确认，谢谢！", "收到，谢谢。",
		"根据昨天会议的讨论，", "请各位同事注意：", "祝工作顺利！", "关于这个项目的进展情况，", "麻烦您看一下附件中的内容。", "我们公司决定",
	},
}

// language writes sentences of invented text.
type language struct {
	rng     *rand.Rand
	chinese bool
	words   []string
	pick    *rand.Zipf
}

const vocabulary = 6000

func newLanguage(rng *rand.Rand, chinese bool) *language {
	l := &language{rng: rng, chinese: chinese, pick: rand.NewZipf(rng, 1.08, 3, vocabulary-1)}
	if !chinese {
		l.words = strings.Fields(common)
	}
	chars := []rune(hanzi)
	often := rand.NewZipf(rng, 1.1, 20, uint64(len(chars)-1))
	for len(l.words) < vocabulary {
		if !chinese {
			l.words = append(l.words, invent(rng))
			continue
		}
		word := []rune{chars[often.Uint64()]}
		for range 1 + len(l.words)%5/4 {
			word = append(word, chars[often.Uint64()])
		}
		l.words = append(l.words, string(word))
	}
	return l
}

// invent makes a word of syllables.
func invent(rng *rand.Rand) string {
	starts := []string{"b", "c", "d", "f", "g", "h", "l", "m", "n", "p", "r", "s", "t", "v", "st", "tr", "pr", "con", "re", "in", "de", "ex", "sp", "ch", "sh"}
	middles := []string{"a", "e", "i", "o", "u", "ai", "ea", "ou", "er", "or", "an", "en", "in", "on", "al", "ar"}
	ends := []string{"", "t", "n", "d", "r", "s", "l", "ct", "nd", "rt", "ment", "tion", "ing", "ed", "ly", "er", "able", "ness"}
	var b strings.Builder
	for range 1 + rng.IntN(2) {
		b.WriteString(starts[rng.IntN(len(starts))])
		b.WriteString(middles[rng.IntN(len(middles))])
	}
	b.WriteString(ends[rng.IntN(len(ends))])
	return b.String()
}

func (l *language) word() string { return l.words[l.pick.Uint64()] }

// title is n words with capitals, for subjects and names.
func (l *language) title(n int) string {
	words := make([]string, n)
	for i := range words {
		words[i] = upper(l.words[l.rng.IntN(len(l.words))])
	}
	if l.chinese {
		return strings.Join(words, "")
	}
	return strings.Join(words, " ")
}

func upper(w string) string {
	r := []rune(w)
	r[0] = unicode.ToUpper(r[0])
	return string(r)
}

// sentence is a phrase, or words with a full stop.
func (l *language) sentence() string {
	if l.rng.IntN(7) == 0 {
		list := phrases[l.chinese]
		return list[l.rng.IntN(len(list))]
	}
	var b strings.Builder
	n := 5 + l.rng.IntN(14)
	for i := range n {
		w := l.word()
		switch {
		case l.chinese:
		case i == 0:
			w = upper(w)
		default:
			b.WriteByte(' ')
		}
		b.WriteString(w)
		if i > 2 && i < n-2 && l.rng.IntN(9) == 0 {
			b.WriteString(map[bool]string{true: "，", false: ","}[l.chinese])
		}
	}
	b.WriteString(map[bool]string{true: "。", false: "."}[l.chinese])
	return b.String()
}

// paragraph is n sentences on one line.
func (l *language) paragraph(n int) string {
	s := make([]string, n)
	for i := range s {
		s[i] = l.sentence()
	}
	if l.chinese {
		return strings.Join(s, "")
	}
	return strings.Join(s, " ")
}

// paragraphs of one to five sentences.
func (l *language) paragraphs(n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = l.paragraph(1 + l.rng.IntN(5))
	}
	return out
}
