import static org.apache.spark.sql.functions.col;
import static org.apache.spark.sql.functions.get_json_object;

import org.apache.spark.sql.Dataset;
import org.apache.spark.sql.Row;
import org.apache.spark.sql.SparkSession;

/** `java -cp … ReadTable.java <folder>`: what Spark finds in an inference table, as one line of JSON behind "found ". */
public class ReadTable {
    public static void main(String[] arguments) {
        SparkSession spark = SparkSession.builder()
            .master("local[2]")
            .config("spark.ui.enabled", "false")
            .config("spark.sql.shuffle.partitions", "2")
            .config("spark.sql.extensions", "io.delta.sql.DeltaSparkSessionExtension")
            .config("spark.sql.catalog.spark_catalog", "org.apache.spark.sql.delta.catalog.DeltaCatalog")
            .getOrCreate();
        Dataset<Row> table = spark.read().format("delta").load(arguments[0]);
        Dataset<Row> changes = spark.read().format("delta").option("readChangeFeed", "true").option("startingVersion", 0).load(arguments[0]);
        System.out.printf(
            "found {\"rows\": %d, \"requests\": %d, \"predictions\": %d, \"inserted\": %d}%n",
            table.count(),
            table.select("databricks_request_id").distinct().count(),
            table.where(get_json_object(col("response"), "$.predictions[0]").isNotNull()).count(),
            changes.where(col("_change_type").equalTo("insert")).count());
        spark.stop();
    }
}
