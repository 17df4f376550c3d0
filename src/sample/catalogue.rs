//! What the shop sells: categories, and the words from which product titles are made.

/// A category of products.
#[derive(Debug)]
pub(crate) struct Category {
    pub(crate) name: &'static str,
    /// What its products are called in copy and reviews.
    pub(crate) plural: &'static str,
    /// Share of the browsing, before taste and season.
    pub(crate) share: f64,
    /// Median price in cents.
    pub(crate) price: f64,
    /// Interest by month, January first; 1 is ordinary.
    pub(crate) seasons: [f64; 12],
    /// Direction in the space of taste: bold-quiet, modern-classic, playful-serious.
    pub(crate) style: [f64; 3],
    /// Why one wants such a thing; copy says it.
    pub(crate) promise: &'static str,
    /// Adds to the tendency to click, in thousandths of a logit.
    pub(crate) appeal: i32,
    pub(crate) adjectives: &'static [&'static str],
    pub(crate) materials: &'static [&'static str],
    pub(crate) nouns: &'static [&'static str],
}

const STEADY: [f64; 12] = [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.95, 0.95, 1.0, 1.0, 1.05, 1.05];
const WINTER: [f64; 12] = [1.5, 1.3, 1.0, 0.8, 0.6, 0.45, 0.4, 0.5, 1.0, 1.5, 1.6, 1.4];
const SUMMER: [f64; 12] = [0.5, 0.6, 0.9, 1.3, 1.6, 1.7, 1.6, 1.2, 0.8, 0.6, 0.5, 0.5];
const GIFTS: [f64; 12] = [0.7, 1.05, 0.8, 0.85, 1.0, 0.8, 0.7, 0.7, 0.8, 1.0, 1.6, 2.0];

pub(crate) const CATEGORIES: [Category; 12] = [
    Category {
        name: "shoes",
        plural: "shoes",
        share: 1.5,
        price: 8_900.0,
        seasons: [0.9, 0.9, 1.2, 1.2, 1.1, 1.0, 0.9, 1.0, 1.2, 1.1, 1.0, 0.9],
        style: [0.4, 0.5, 0.0],
        promise: "made to be walked in all day",
        appeal: 120,
        adjectives: &["Everyday", "Lightweight", "Cushioned", "Classic", "City", "Trail", "Slip-on", "High-top", "Low-cut", "Weekend"],
        materials: &["Leather", "Canvas", "Suede", "Knit", "Nubuck", "Cork"],
        nouns: &["Sneaker", "Loafer", "Boot", "Sandal", "Runner", "Derby", "Mule", "Trainer"],
    },
    Category {
        name: "jackets",
        plural: "jackets",
        share: 0.9,
        price: 14_900.0,
        seasons: WINTER,
        style: [0.3, 0.3, -0.3],
        promise: "warm when it matters, light when it does not",
        appeal: 40,
        adjectives: &["Quilted", "Waterproof", "Cropped", "Oversized", "Padded", "Windproof", "Belted", "Hooded", "Packable", "Field"],
        materials: &["Wool", "Cotton", "Denim", "Softshell", "Down", "Waxed Cotton"],
        nouns: &["Parka", "Blouson", "Coat", "Anorak", "Bomber", "Trench", "Gilet", "Overshirt"],
    },
    Category {
        name: "knitwear",
        plural: "knits",
        share: 0.9,
        price: 6_900.0,
        seasons: WINTER,
        style: [-0.5, -0.3, -0.2],
        promise: "soft on the skin and made to last",
        appeal: 0,
        adjectives: &["Chunky", "Ribbed", "Fine-gauge", "Cable", "Fair Isle", "Relaxed", "Striped", "Boxy", "Brushed", "Textured"],
        materials: &["Merino", "Lambswool", "Alpaca", "Organic Cotton", "Cashmere Blend", "Mohair"],
        nouns: &["Sweater", "Cardigan", "Roll-neck", "Vest", "Pullover", "Beanie", "Scarf", "Polo"],
    },
    Category {
        name: "dresses",
        plural: "dresses",
        share: 1.1,
        price: 7_900.0,
        seasons: SUMMER,
        style: [0.6, 0.1, 0.4],
        promise: "easy to put on and hard to take off",
        appeal: 180,
        adjectives: &["Wrap", "Pleated", "Midi", "Floral", "Tiered", "Button-front", "Sleeveless", "Smocked", "Polka-dot", "A-line"],
        materials: &["Linen", "Viscose", "Cotton", "Satin", "Jersey", "Silk Blend"],
        nouns: &["Dress", "Shirt Dress", "Sundress", "Pinafore", "Maxi Dress", "Tunic", "Slip Dress", "Jumpsuit"],
    },
    Category {
        name: "bags",
        plural: "bags",
        share: 0.9,
        price: 7_400.0,
        seasons: [0.9, 0.9, 1.0, 1.0, 1.0, 1.0, 0.95, 1.2, 1.1, 0.95, 1.15, 1.2],
        style: [0.1, 0.5, 0.0],
        promise: "room for everything, a pocket for each",
        appeal: 60,
        adjectives: &["Roll-top", "Mini", "Foldable", "Structured", "Slouchy", "Commuter", "Drawstring", "Padded", "Two-way", "Overnight"],
        materials: &["Leather", "Canvas", "Recycled Nylon", "Waxed Cotton", "Felt", "Vegan Leather"],
        nouns: &["Tote", "Backpack", "Crossbody", "Weekender", "Pouch", "Bucket Bag", "Messenger", "Belt Bag"],
    },
    Category {
        name: "jewellery",
        plural: "pieces",
        share: 0.7,
        price: 4_900.0,
        seasons: GIFTS,
        style: [0.5, -0.4, 0.1],
        promise: "small things that are noticed",
        appeal: 90,
        adjectives: &["Hammered", "Twisted", "Fine", "Layered", "Minimal", "Vintage", "Open", "Engraved", "Mismatched", "Beaded"],
        materials: &["Silver", "Gold-plated", "Brass", "Pearl", "Enamel", "Moonstone"],
        nouns: &["Hoops", "Ring", "Necklace", "Bracelet", "Studs", "Anklet", "Pendant", "Brooch"],
    },
    Category {
        name: "skincare",
        plural: "products",
        share: 1.1,
        price: 2_400.0,
        seasons: STEADY,
        style: [0.0, 0.4, 0.2],
        promise: "less in the bottle, more on the skin",
        appeal: 30,
        adjectives: &["Hydrating", "Gentle", "Overnight", "Brightening", "Daily", "Calming", "Mineral", "Fragrance-free", "Rich", "Clarifying"],
        materials: &["Oat", "Rosehip", "Green Tea", "Aloe", "Sea Buckthorn", "Calendula"],
        nouns: &["Cream", "Serum", "Cleanser", "Balm", "Toner", "Mask", "Face Oil", "Sunscreen"],
    },
    Category {
        name: "kitchen",
        plural: "kitchen things",
        share: 1.0,
        price: 3_400.0,
        seasons: [1.0, 0.95, 0.95, 0.95, 0.95, 0.9, 0.9, 0.95, 1.0, 1.05, 1.3, 1.45],
        style: [-0.4, 0.0, 0.1],
        promise: "good tools make a good dinner",
        appeal: -60,
        adjectives: &["Hand-thrown", "Stackable", "Non-stick", "Double-walled", "Heavy", "Speckled", "Compact", "Professional", "Rustic", "Enamelled"],
        materials: &["Stoneware", "Cast Iron", "Beech", "Steel", "Glass", "Copper"],
        nouns: &["Saucepan", "Bowl Set", "Chef's Knife", "Chopping Board", "Mug", "Carafe", "Baking Dish", "Peppermill"],
    },
    Category {
        name: "home",
        plural: "pieces for the home",
        share: 1.1,
        price: 4_400.0,
        seasons: [1.1, 1.0, 1.0, 1.0, 0.95, 0.9, 0.85, 0.9, 1.05, 1.1, 1.15, 1.1],
        style: [-0.6, -0.1, 0.0],
        promise: "a room that feels like yours",
        appeal: -20,
        adjectives: &["Woven", "Arched", "Round", "Fluted", "Dimmable", "Handmade", "Low", "Scented", "Washed", "Tufted"],
        materials: &["Linen", "Oak", "Rattan", "Ceramic", "Wool", "Smoked Glass"],
        nouns: &["Cushion", "Table Lamp", "Throw", "Vase", "Candle", "Mirror", "Rug", "Side Table"],
    },
    Category {
        name: "outdoor",
        plural: "gear",
        share: 0.8,
        price: 5_900.0,
        seasons: SUMMER,
        style: [0.2, 0.4, -0.4],
        promise: "tested in rain before you are",
        appeal: -40,
        adjectives: &["Ultralight", "Insulated", "Two-person", "Collapsible", "Trekking", "Solar", "Quick-dry", "Self-inflating", "Rugged", "Family"],
        materials: &["Ripstop", "Titanium", "Aluminium", "Bamboo", "Recycled Polyester", "Carbon"],
        nouns: &["Tent", "Sleeping Mat", "Lantern", "Bottle", "Hammock", "Camp Chair", "Daypack", "Stove"],
    },
    Category {
        name: "toys",
        plural: "toys",
        share: 0.6,
        price: 2_700.0,
        seasons: GIFTS,
        style: [0.3, -0.1, 0.9],
        promise: "quiet afternoons, guaranteed by nobody",
        appeal: 20,
        adjectives: &["Wooden", "Magnetic", "Giant", "Travel", "Musical", "Rainbow", "Wind-up", "Stacking", "Glow", "Tiny"],
        materials: &["Beech", "Felt", "Cork", "Organic Cotton", "Maple", "Cardboard"],
        nouns: &["Building Blocks", "Puzzle", "Train Set", "Kite", "Marble Run", "Memory Game", "Plush Fox", "Dollhouse"],
    },
    Category {
        name: "coffee",
        plural: "coffees and teas",
        share: 0.9,
        price: 1_590.0,
        seasons: [1.1, 1.05, 1.0, 0.95, 0.9, 0.8, 0.75, 0.8, 1.0, 1.1, 1.2, 1.3],
        style: [-0.2, 0.1, -0.1],
        promise: "the first good decision of the day",
        appeal: -90,
        adjectives: &["Single Origin", "Dark Roast", "Decaf", "Slow-dried", "Spiced", "Smoky", "Floral", "Breakfast", "Cold Brew", "Limited"],
        materials: &["Highland", "Washed", "Oolong", "Arabica", "Jasmine", "Rooibos"],
        nouns: &["Beans 250 g", "Beans 1 kg", "Loose Leaf 100 g", "Drip Bags", "Capsules", "Sampler", "Gift Tin", "Concentrate"],
    },
];

/// Made-up brands.
pub(crate) const BRANDS: [&str; 36] = [
    "Aldermoor", "Brisa & Kelp", "Corvane", "Dunelight", "Ebbelund", "Fjordmere", "Glimhaven", "Hazelquist", "Indralune", "Juna Works",
    "Kestrel Row", "Lumfield", "Maison Ploom", "Nordhaze", "Oru Studio", "Pellwick", "Quaylark", "Rivanel", "Sundrel", "Tallowby",
    "Umbrafield", "Velloway", "Wrenhollow", "Xandolin", "Yarrowkin", "Zephyrine", "Äppelgård", "Bruma Alta", "Ciel d'Orme", "Dovetide",
    "Estrelmar", "Föhnwerk", "Grauwinkel", "Hinode Lane", "Isolde & Sons", "Kiefernhof",
];

pub(crate) const COLOURS: [&str; 14] = [
    "Sand", "Ink", "Sage", "Rust", "Chalk", "Plum", "Ochre", "Moss", "Slate", "Coral", "Midnight", "Clay", "Olive", "Sky",
];

/// Brands that sell in a category: nine of them, the strongest first.
pub(crate) fn brands_of(category: usize) -> [usize; 9] {
    std::array::from_fn(|place| (category * 3 + place * 5) % BRANDS.len())
}
