"""Things that pictures and sounds show, in English and Chinese: what a cluster of assets without words is named by.

Own work: everyday nouns, each broad enough that people would sort by it.
"""

from __future__ import annotations

_THINGS = """
people 人物 | portraits 人像 | children 儿童 | babies 婴儿 | crowds 人群 | a wedding 婚礼 | sports 体育
football 足球 | basketball 篮球 | tennis 网球 | running 跑步 | swimming 游泳 | surfing 冲浪 | skiing 滑雪
cycling 骑行 | climbing 攀岩 | dancing 舞蹈 | concerts 音乐会 | musical instruments 乐器 | guitars 吉他
pianos 钢琴 | dogs 狗 | cats 猫 | horses 马 | birds 鸟 | fish 鱼 | cows 牛 | sheep 羊 | elephants 大象
bears 熊 | insects 昆虫 | butterflies 蝴蝶 | snakes 蛇 | wild animals 野生动物 | flowers 花 | trees 树木
forests 森林 | gardens 花园 | grass 草地 | leaves 树叶 | mountains 山 | beaches 海滩 | the sea 大海
rivers 河流 | lakes 湖泊 | waterfalls 瀑布 | deserts 沙漠 | snow 雪 | sky 天空 | clouds 云 | sunsets 日落
night 夜景 | stars 星空 | rain 雨 | fire 火焰 | cities 城市 | streets 街道 | houses 房屋 | skyscrapers 高楼
bridges 桥梁 | churches 教堂 | castles 城堡 | ruins 遗迹 | kitchens 厨房 | bedrooms 卧室 | bathrooms 浴室
living rooms 客厅 | offices 办公室 | classrooms 教室 | shops 商店 | restaurants 餐厅 | hospitals 医院
factories 工厂 | farms 农场 | cars 汽车 | lorries 卡车 | buses 公交车 | trains 火车 | bicycles 自行车
motorcycles 摩托车 | aeroplanes 飞机 | boats 船 | ships 轮船 | traffic signs 交通标志 | food 食物 | fruit 水果
apples 苹果 | bananas 香蕉 | oranges 橙子 | berries 浆果 | melons 瓜类 | vegetables 蔬菜 | tomatoes 番茄
potatoes 土豆 | peppers 辣椒 | mushrooms 蘑菇 | bread 面包 | cakes 蛋糕 | pizza 披萨 | noodles 面条 | rice 米饭
soup 汤 | meat 肉类 | seafood 海鲜 | eggs 鸡蛋 | cheese 奶酪 | milk 牛奶 | yoghurt 酸奶 | juice 果汁
coffee 咖啡 | tea 茶 | wine 葡萄酒 | beer 啤酒 | bottles 瓶子 | packages 包装盒 | cans 罐头 | clothes 服装
shirts 衬衫 | t-shirts T恤 | trousers 裤子 | jeans 牛仔裤 | dresses 连衣裙 | skirts 裙子 | jackets 外套
coats 大衣 | suits 西装 | underwear 内衣 | socks 袜子 | shoes 鞋 | trainers 运动鞋 | sandals 凉鞋
high heels 高跟鞋 | boots 靴子 | bags 包 | handbags 手提包 | backpacks 双肩包 | wallets 钱包 | belts 腰带
hats 帽子 | scarves 围巾 | ties 领带 | glasses 眼镜 | sunglasses 太阳镜 | watches 手表 | jewellery 首饰
earrings 耳环 | rings 戒指 | make-up 化妆品 | perfume 香水 | toys 玩具 | furniture 家具 | chairs 椅子
tables 桌子 | sofas 沙发 | beds 床 | lamps 灯 | clocks 钟表 | books 书籍 | documents 文件 | letters 信件
handwriting 手写文字 | maps 地图 | charts 图表 | diagrams 示意图 | screenshots 屏幕截图 | logos 标志
posters 海报 | paintings 绘画 | drawings 素描 | cartoons 漫画 | sculptures 雕塑 | icons 图标 | patterns 图案
textures 纹理 | phones 手机 | computers 电脑 | keyboards 键盘 | cameras 相机 | televisions 电视
headphones 耳机 | tools 工具 | machines 机器 | robots 机器人 | weapons 武器 | money 钱币 | medicine 药品
X-ray images X光片 | scans of the body 医学影像 | microscope images 显微图像 | satellite images 卫星图像
faces 人脸 | hands 手 | hair 头发 | animals 动物 | plants 植物 | buildings 建筑 | landscapes 风景
interiors 室内 | abstract shapes 抽象图形 | circles 圆形 | squares 方形 | triangles 三角形 | lines 线条
colours 色彩 | black and white 黑白 | red 红色 | blue 蓝色 | green 绿色 | yellow 黄色 | speech 讲话 | music 音乐
numbers 数字 | singing 歌唱 | laughter 笑声 | applause 掌声 | birdsong 鸟鸣 | traffic 车流
machines at work 机器声 | wind 风声 | silence 寂静
"""

#: English and Chinese names of the same things.
THINGS: list[tuple[str, str]] = [
    (english, chinese)
    for english, _space, chinese in (
        one.strip().rpartition(" ") for one in _THINGS.replace("\n", " | ").split("|")
    )
    if english
]
