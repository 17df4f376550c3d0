//! Where customers live and what they are called. The lists are ours; the family names are put together, not taken from a register.

/// A country with the names and cities of its customers.
#[derive(Debug)]
pub(crate) struct Country {
    /// ISO 3166 code.
    pub(crate) code: &'static str,
    /// Language of the reviews written there.
    pub(crate) lang: &'static str,
    /// Hours east of UTC, winter time all year.
    pub(crate) offset: i64,
    /// Share of the customers, in percent.
    pub(crate) share: f64,
    pub(crate) cities: &'static [&'static str],
    pub(crate) first_names: &'static [&'static str],
    pub(crate) last_names: &'static [&'static str],
}

/// Shares of the countries, in their order.
pub(crate) fn shares() -> [f64; COUNTRIES.len()] {
    std::array::from_fn(|country| COUNTRIES[country].share)
}

pub(crate) const COUNTRIES: [Country; 12] = [
    Country {
        code: "DE",
        lang: "de",
        offset: 1,
        share: 24.0,
        cities: &["Berlin", "Hamburg", "Köln", "Leipzig", "München", "Nürnberg", "Tübingen", "Würzburg"],
        first_names: &[
            "Anke", "Björn", "Clara", "Emil", "Finn", "Greta", "Hannes", "Ida", "Jörg", "Käthe", "Lukas", "Maren", "Nele", "Ömer", "Rieke",
            "Sören",
        ],
        last_names: &[
            "Birkenfels", "Dünenbach", "Eichgruber", "Finkenhain", "Größing", "Haselbrück", "Jägerloh", "Kieselrath", "Lindenquell",
            "Moosleitner", "Nebelthal", "Rübsamen", "Strohhecker", "Überlinger", "Wiesenpfad", "Zöllnerau",
        ],
    },
    Country {
        code: "FR",
        lang: "fr",
        offset: 1,
        share: 15.0,
        cities: &["Annecy", "Bordeaux", "Lille", "Lyon", "Nantes", "Nîmes", "Paris", "Saint-Étienne"],
        first_names: &[
            "Aurélie", "Baptiste", "Chloé", "Élodie", "François", "Gaëlle", "Hugo", "Inès", "Jérôme", "Léa", "Maël", "Noémie", "Océane",
            "Rémi", "Théo", "Zoé",
        ],
        last_names: &[
            "Aubépin", "Boisclairet", "Chantecroix", "Dormeuil", "Épineux", "Fontrosier", "Grandval", "Haut-Pré", "Jolibourg", "Lavandière",
            "Montfleuri", "Noisetel", "Pierrelune", "Ruisselin", "Soufflet-Bois", "Vertchamp",
        ],
    },
    Country {
        code: "GB",
        lang: "en",
        offset: 0,
        share: 14.0,
        cities: &["Bath", "Bristol", "Cardiff", "Edinburgh", "Leeds", "London", "Manchester", "York"],
        first_names: &[
            "Alfie", "Beatrix", "Callum", "Daisy", "Edith", "Freya", "Gwen", "Harvey", "Imogen", "Jasper", "Kezia", "Lowri", "Maisie",
            "Niamh", "Rowan", "Siân",
        ],
        last_names: &[
            "Applethwick", "Barrowmere", "Copperleigh", "Dunmarsh", "Elderbrook", "Fennimoor", "Gorsefield", "Hollinwater", "Kestrelby",
            "Larkstead", "Mosswick", "O'Wrenly", "Pebbleham", "Quillstone", "Thistledown", "Wintergate",
        ],
    },
    Country {
        code: "US",
        lang: "en",
        offset: -5,
        share: 9.0,
        cities: &["Atlanta", "Boston", "Charlotte", "Cleveland", "Miami", "New York", "Philadelphia", "Pittsburgh"],
        first_names: &[
            "Avery", "Brooke", "Cody", "Dakota", "Ezra", "Faith", "Grayson", "Harper", "Isaiah", "Jada", "Kai", "Luz", "Mateo", "Nia",
            "Quinn", "Skylar",
        ],
        last_names: &[
            "Ashgrove", "Bluffton-Hale", "Cedarline", "Driftmoor", "Eastwater", "Foxhollow", "Granger-Pine", "Hickorydale", "Ironleaf",
            "Juniperson", "Lakemont", "Millbranch", "Northway", "Oakhurst-Ray", "Prairiewood", "Stonecreeker",
        ],
    },
    Country {
        code: "ES",
        lang: "es",
        offset: 1,
        share: 8.0,
        cities: &["A Coruña", "Barcelona", "Bilbao", "Cádiz", "Madrid", "Málaga", "Sevilla", "València"],
        first_names: &[
            "Adrián", "Begoña", "Candela", "Diego", "Elena", "Íñigo", "Jimena", "Leire", "Martín", "Nuria", "Óscar", "Paula", "Rocío",
            "Santi", "Tomás", "Ximena",
        ],
        last_names: &[
            "Almendrález", "Brisamar", "Campoverde", "Duermevela", "Encinares", "Fuentelluna", "Guijarreño", "Higueralta", "Lobomonte",
            "Madreselva", "Naranjuelo", "Olivarríos", "Peñablanca", "Riachuelo", "Solanares", "Zarzaluna",
        ],
    },
    Country {
        code: "PL",
        lang: "en",
        offset: 1,
        share: 6.0,
        cities: &["Gdańsk", "Katowice", "Kraków", "Łódź", "Poznań", "Warszawa", "Wrocław"],
        first_names: &[
            "Agnieszka", "Błażej", "Celina", "Dawid", "Elżbieta", "Grażyna", "Hania", "Jędrzej", "Kinga", "Łucja", "Michał", "Oliwia",
            "Paweł", "Stanisław", "Zofia", "Żaneta",
        ],
        last_names: &[
            "Borówka-Las", "Cichobór", "Dębogórz", "Gwiazdobór", "Jeżynek", "Klonowicz-Staw", "Leśniczek", "Modrzewek", "Ósmolist",
            "Pszczelina", "Rzecznik-Młyn", "Sosnogaj", "Świerkotek", "Wrzosowiak", "Zimorodek", "Żurawinek",
        ],
    },
    Country {
        code: "SE",
        lang: "en",
        offset: 1,
        share: 5.0,
        cities: &["Göteborg", "Kiruna", "Malmö", "Örebro", "Stockholm", "Umeå", "Västerås"],
        first_names: &[
            "Agnes", "Åke", "Björk", "Ebba", "Elsa", "Gösta", "Hjalmar", "Ingrid", "Lova", "Måns", "Nils", "Östen", "Saga", "Signe", "Tove",
            "Viggo",
        ],
        last_names: &[
            "Älvkvist", "Björkdahlén", "Dimfors", "Ekängen", "Fjällmark", "Granåker", "Höstvind", "Isbäck", "Kråkholm", "Ljungvass",
            "Norrglänta", "Sjöstig", "Snölund", "Talludd", "Tranström-Å", "Vinterby",
        ],
    },
    Country {
        code: "TR",
        lang: "en",
        offset: 3,
        share: 5.0,
        cities: &["Ankara", "Bursa", "Çanakkale", "İstanbul", "İzmir", "Muğla"],
        first_names: &[
            "Aslı", "Barış", "Cem", "Çağla", "Deniz", "Ezgi", "Gökçe", "İpek", "Kerem", "Lale", "Murat", "Nazlı", "Özge", "Şebnem", "Ufuk",
            "Yağmur",
        ],
        last_names: &[
            "Akçapınar", "Bozyel", "Çamdalı", "Dereotlu", "Esenyayla", "Gümüşdağlı", "Ihlamurcu", "Karayonca", "Lalezarcı", "Menekşegil",
            "Ozanpınar", "Sarıçiğdem", "Şenırmak", "Taşköprülük", "Yeldeğirmen", "Zeytindal",
        ],
    },
    Country {
        code: "CN",
        lang: "zh",
        offset: 8,
        share: 5.0,
        cities: &["上海", "北京", "广州", "成都", "杭州", "深圳"],
        first_names: &["安然", "晨曦", "海涛", "佳怡", "君瑶", "丽华", "明轩", "思远", "小雨", "欣然", "雅静", "志强", "子墨", "梓涵"],
        last_names: &["白", "程", "段", "范", "顾", "江", "蓝", "柳", "骆", "欧阳", "秋", "上官", "温", "叶"],
    },
    Country {
        code: "JP",
        lang: "ja",
        offset: 9,
        share: 4.0,
        cities: &["京都", "名古屋", "大阪", "札幌", "東京", "福岡"],
        first_names: &["葵", "明里", "海斗", "沙織", "翔太", "千尋", "大輝", "陽菜", "広樹", "真琴", "美咲", "結衣", "蓮", "優斗"],
        last_names: &["青葉原", "雨宮路", "石垣川", "梅ヶ丘", "霞沢", "北風", "桜木沢", "清水谷口", "白樺", "月見里", "鳥居坂", "夏目川", "花園寺", "雪村"],
    },
    Country {
        code: "IN",
        lang: "en",
        offset: 5,
        share: 3.0,
        cities: &["बेंगलुरु", "Chennai", "Hyderabad", "Kolkata", "मुंबई", "Pune"],
        first_names: &["Aarav", "अनन्या", "Bhavna", "दिव्या", "Ishaan", "Kavya", "मीरा", "Nikhil", "प्रिया", "Rohan", "Sanvi", "विवेक"],
        last_names: &["Amrutvan", "बागवानी", "Chandanpur", "Devnadi", "Himgiri", "जलधारा", "Kamalkund", "Meghdoot", "पर्वतीय", "Suryapath", "Tulsivan", "Vanmali"],
    },
    Country {
        code: "GR",
        lang: "en",
        offset: 2,
        share: 2.0,
        cities: &["Αθήνα", "Ηράκλειο", "Θεσσαλονίκη", "Πάτρα"],
        first_names: &["Αλέξης", "Δανάη", "Ελπίδα", "Θάλεια", "Ίρις", "Κίμων", "Λυδία", "Νεφέλη", "Ορέστης", "Φοίβος"],
        last_names: &["Αμπελάκος", "Βουνίδης", "Γαλαζόπετρος", "Δασολίμνη", "Ελαιώνος", "Θαλασσάκης", "Κυπαρίσσης", "Λιμανίδου", "Πευκιάδης", "Χρυσόδεντρος"],
    },
];
