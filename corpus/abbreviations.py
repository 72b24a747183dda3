"""What a full stop may mean besides the end of a sentence, by language: data for `corpus.sentences`.

Only abbreviations that a sentence hardly ever ends with: "bzw." and "Mme", not "usw." or "etc.". Written as in the middle
of a sentence and without the full stop; capitals are found as well. Languages are primary BCP 47 tags.
"""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Language:
    """`always`: no end, whatever follows. `before_digit`: none before a number ("Nr. 5"). `ordinals`: none after a number
    of one or two digits ("3. Oktober"). `stops`: ASCII marks that end a sentence besides . ! and ? before a space."""

    always: str = ""
    before_digit: str = ""
    ordinals: bool = False
    stops: str = ""


_EVERYWHERE = "dr prof mr mrs ms st vs cf resp vgl"
_NUMBERED = "no nr p pp pg vol fig art tel ca"
_ROMAN = "ii iii iv vi vii viii ix xi xii xiii xiv xv xvi xvii xviii xix xx xxi"  # also ordinals


def _language(always: str, before_digit: str = "", *, ordinals: bool = False, stops: str = "") -> Language:
    roman = _ROMAN if ordinals else ""
    return Language(
        always=f"{_EVERYWHERE} {always} {roman}",
        before_digit=f"{_NUMBERED} {before_digit}",
        ordinals=ordinals,
        stops=stops,
    )


# Text whose language is not known is read as English.
ENGLISH = Language(
    always="mr mrs ms dr prof st messrs vs fig figs eq eqs sec approx cf al resp viz gen col lt sgt capt gov sen rep hon"
    " rev",
    before_digit="no nos vol vols p pp ch art sect par app ref refs ver v jan feb mar apr jun jul aug sep sept oct nov"
    " dec ca c",
)
OTHER = _language("")
_INDIC = "|"  # typed for the danda
_SOUTH_SLAVIC = _language(
    "npr mr ing sv tj tzv odn gđa gđica ul al t g br akad нпр мр инж св тј тзв одн ул бр акад г проф др",
    "str čl sl стр чл",
    ordinals=True,
)
_SCANDINAVIAN = _language(
    "f t eks dvs bl ca nr kl hr fru jf pr ex d v s fr resp inkl ev innb mag", "s kap", ordinals=True
)

LANGUAGES: dict[str, Language] = {
    "en": ENGLISH,
    "de": _language(
        "bzw hr fr frl str nr bd ca sog geb gest verh zzgl inkl exkl ggf evtl z d u o v n i s a b mio mrd std hrsg abb"
        " dipl ing med phil jur mag kath röm franz engl dt amerik österr einschl allg bes lt ev jh hl bspw insb",
        "abs kap s jg ziff anm",
        ordinals=True,
    ),
    "lb": _language("z b d h asw här", ordinals=True),
    "nds": _language("t b", ordinals=True),
    "nl": _language(
        "dhr mevr mw drs ir ing bijv ca blz nr o a v d st plm wo ds jl m n i incl excl zgn bv",
        "blz blad hfst",
    ),
    "af": _language("mnr mev mej bv o a nr bl"),
    "fy": _language("bgl û o nr"),
    "da": _SCANDINAVIAN,
    "nb": _SCANDINAVIAN,
    "nn": _SCANDINAVIAN,
    "no": _SCANDINAVIAN,
    "sv": _language("t ex dvs bl d v s k ca kl nr fr o f inkl exkl st", "s kap st"),
    "is": _language("t d þ e sbr nr hr frú st f", "bls", ordinals=True),
    "fo": _language("t d hr", ordinals=True),
    "fi": _language("esim ns nk nro ks vrt tri toht s v eaa n mm ent", "s", ordinals=True),
    "et": _language("nt hr pr lk nr vt sh s o st e", ordinals=True),
    "lv": _language("piem t i u c sk plkst", "lpp", ordinals=True),
    "lt": _language("pvz t y žr šv doc g gen plg", "psl"),
    "fr": _language("mm mme mmes mlle mlles pr av apr env éd ste réf", "chap n tél t"),
    "es": _language(
        "sr sra srta sres sras dra d dña ee dd ff av avda ud uds vd vds profa lic ing arq gral cnel tte pág págs núm a aprox"
        " f n v excmo hnos",
        "cap págs núm",
    ),
    "ca": _language("sr sra dra av pàg núm sta aprox ex", "cap"),
    "gl": _language("sr sra dra dna av páx núm a aprox", "cap"),
    "pt": _language(
        "sr sra srs sras dra drs dras profa eng arq av exmo exma sto sta d pág págs núm aprox a séc", "cap n"
    ),
    "it": _language(
        "sig sigg sigra dott dssa avv ing arch geom on pag pagg cfr s ss a d es sec mons p", "cap nn n"
    ),
    "ro": _language("dl dna ing sf str nr pag op cit acad arh av bd jud ex", "cap alin"),
    "pl": _language(
        "np m in tzn tj ul al św ks mgr inż hab godz ok zob por red gen płk kpt im pl dot ww tzw os pt",
        "str poz rozdz s",
        ordinals=True,
    ),
    "cs": _language(
        "např tzv tj č sv ing mgr mudr judr phdr doc arch ul nám tř mj popř gen plk kpt r t zn p pí odst",
        "str kap s",
        ordinals=True,
    ),
    "sk": _language(
        "napr tzv t j č sv ing mgr mudr judr doc ul nám popr gen p r resp",
        "str kap s",
        ordinals=True,
    ),
    "sl": _language("npr mag sv št tj t i oz ul g ga gdč d o", "str čl", ordinals=True),
    "hr": _SOUTH_SLAVIC,
    "bs": _SOUTH_SLAVIC,
    "sr": _SOUTH_SLAVIC,
    "mk": _language("на пр проф д р ул бр св г акад", "стр чл"),
    "bg": _language("напр проф акад доц д ул бул гр св вж ген инж т проф", "стр чл с"),
    "ru": _language(
        "т см ср им ул пл пер просп проф акад доц гр ген св напр тов инж ред изд англ нем фр франц лат греч рус исп итал яп"
        " полк кап лейт оз пос обл респ букв",
        "стр с д п ч ст гл рис табл тт кв корп вып",
    ),
    "uk": _language(
        "т див пор ім вул пл просп проф акад доц св напр тов ред вид англ нім фр лат грец рос ісп італ ген м оз смт обл",
        "стр с п ч ст гл рис табл кв",
    ),
    "be": _language("т гл ім вул пл праф акад дац св напр рэд англ лац г", "стар с п ч арт мал"),
    "hu": _language("pl ill ún kb id ifj özv szt u gr sz", "old", ordinals=True),
    "tr": _language(
        "doç yrd av bkz örn cad sok mah sn müh alb yay haz çev bul apt hz", "s sayfa", ordinals=True
    ),
    "az": _language("prof dos bax məs küç", "səh"),
    "eu": _language("adib jn and", ordinals=True),
    "sq": _language("p sh z zj znj", "f faq"),
    "el": _language("π κ κα δρ καθ βλ αγ λεωφ τηλ αρ πχ μ ν", "σελ αρ τ", stops=";"),
    "hy": _language("", stops=":"),
    "vi": _language("ts ths gs pgs bs tp tr ks nxb"),
    "id": _language("drs ir h hj jl tn ny sdr bpk kec kab", "hlm tgl rp"),
    "ms": _language("en pn tn ir h hj jln", "hlm"),
    "sw": _language("bw bi dk"),
    "eo": _language("k ekz t n", "p"),
    "hi": _language("डॉ डा प्रो पं श्री सं", stops=_INDIC),
    "mr": _language("डॉ प्रा पं श्री सौ कै", stops=_INDIC),
    "ne": _language("डा प्रा पं", stops=_INDIC),
    "bn": _language("ডা ড মো প্রফে", stops=_INDIC),
    "sa": _language("", stops=_INDIC),
    "as": _language("ডা ড", stops=_INDIC),
}
